//! A TCP connection that closes politely and is not held by a caller who stops reading.
//!
//! When an answer goes out before a body has come in (401, 413, …), closing at once would make the kernel reset the
//! connection and throw the answer away. So our half is closed first, and what still comes is read and thrown away for
//! a while. A caller who takes nothing of an answer for too long is cut off.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long what still comes is thrown away.
const LINGER: Duration = Duration::from_secs(5);
/// The most bytes that are thrown away.
const LINGER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// A connection with those manners.
pub struct Socket<S> {
    inner: S,
    write_timeout: Duration,
    write_deadline: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

struct Lingering {
    deadline: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<S> Socket<S> {
    /// Wraps a connection; a write that makes no progress for `write_timeout` fails.
    pub fn new(inner: S, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, write_deadline: None, lingering: None }
    }

    /// Passes on what a write said; when it has waited for too long, fails it.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.write_deadline = None;
            return said;
        }
        let deadline = self
            .write_deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + self.write_timeout)));
        ready!(deadline.as_mut().poll(cx));
        self.write_deadline = None;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller takes nothing of the answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.in_time(cx, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.in_time(cx, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.inner).poll_flush(cx);
        self.in_time(cx, said)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let said = Pin::new(&mut this.inner).poll_shutdown(cx);
            ready!(this.in_time(cx, said))?;
        }
        let lingering = this
            .lingering
            .get_or_insert_with(|| Lingering { deadline: Box::pin(tokio::time::sleep(LINGER)), bytes: 0 });
        let mut scratch = [0_u8; 16 * 1024];
        while lingering.deadline.as_mut().poll(cx).is_pending() && lingering.bytes < LINGER_BYTES_MAX {
            let mut thrown_away = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.inner).poll_read(cx, &mut thrown_away)) {
                Ok(()) if !thrown_away.filled().is_empty() => lingering.bytes += thrown_away.filled().len(),
                // The other side is done, or gone: either way there is nothing left to wait for.
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (client.expect("connected"), server.expect("accepted").0)
    }

    #[tokio::test]
    async fn an_early_answer_reaches_a_caller_who_is_still_sending() {
        let (mut client, server) = pair().await;
        let server = tokio::spawn(async move {
            let mut socket = Socket::new(server, Duration::from_secs(5));
            socket.write_all(b"no").await.expect("written");
            socket.shutdown().await.expect("closed");
        });
        client.write_all(&vec![0; 8 * 1024 * 1024]).await.expect("all of it was taken");
        client.shutdown().await.expect("closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("not reset");
        assert_eq!(answer, "no");
        server.await.expect("ended");
    }

    #[tokio::test]
    async fn a_caller_who_reads_nothing_is_cut_off() {
        let (_client, server) = pair().await;
        let mut socket = Socket::new(server, Duration::from_millis(50));
        let endless = vec![0; 64 * 1024 * 1024];
        let error = socket.write_all(&endless).await.expect_err("cut off");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
