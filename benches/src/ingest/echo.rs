//! The yardstick for HTTP alone.
//!
//! A bare hyper server, without a router, a parser or a ledger, that answers every request with as many bytes as an answer of the
//! engine has: what is slower than this is not HTTP's doing.

use std::convert::Infallible;

use anyhow::Result;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// As long as the answer to a signal with one decision.
const ANSWER: &str = "{\"signal_id\":\"00000000-0000-0000-0000-000000000000\",\"duplicate\":false,\"decided\":1,\"accepted\":1,\
     \"rejected\":0,\"reasons\":{},\"decisions\":[{\"user_id\":\"00000000-0000-0000-0000-000000000000\",\"verdict\":\
     \"accepted\",\"decision_id\":\"00000000-0000-0000-0000-000000000000\",\"client_order_id\":\
     \"00000000000000000000000000000000-e\",\"quantity\":\"4000\",\"risk\":\"10.00\"}]}";

/// Serves on a free port until the process ends.
pub async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new();
            if let Err(error) = served.serve_connection(TokioIo::new(stream), service_fn(answer)).await {
                eprintln!("a connection broke off: {error}");
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let mut body = request.into_body();
    while !body.is_end_stream() {
        let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
        if frame.is_none_or(|frame| frame.is_err()) {
            break;
        }
    }
    Ok(Response::new(ANSWER.to_owned()))
}
