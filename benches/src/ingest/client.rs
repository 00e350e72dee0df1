//! A lean HTTP client: one keep-alive connection, one request under way on it.
//!
//! The load shares two cores with what it measures, so its requests are built before they are timed, and an answer is read no
//! further than it takes to judge it.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The longest answer that is read: a thousand decisions are shorter.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A connection, and the request that goes out on it next.
pub struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.with_context(|| format!("{addr} does not answer"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::new(), answer: Vec::with_capacity(4_096) })
    }

    /// Makes a POST of JSON ready.
    pub fn prepare(&mut self, path: &str, api_key: &str, body: &str) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {api_key}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(body.as_bytes());
    }

    /// Sends what was made ready, and answers the body of a 200.
    pub async fn call(&mut self) -> Result<&str> {
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let (head, length) = loop {
            self.read().await?;
            if let Some(end) = find(&self.answer, b"\r\n\r\n") {
                break (end + 4, content_length(&self.answer[..end])?);
            }
        };
        ensure!(head + length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        while self.answer.len() < head + length {
            self.read().await?;
        }
        let body = std::str::from_utf8(&self.answer[head..head + length])?;
        ensure!(self.answer.starts_with(b"HTTP/1.1 200 "), "answered {:?}: {body}", &self.status());
        Ok(body)
    }

    async fn read(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.answer).await? == 0 {
            bail!("the connection was closed in the middle of an answer");
        }
        Ok(())
    }

    fn status(&self) -> String {
        let line = self.answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = std::str::from_utf8(head)?;
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim())
    });
    Ok(value.context("an answer without its length")?.parse()?)
}
