//! The bounds of a request: size, headers, and time.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::engine::{PATIENCE, World, signal};

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.engine.base.trim_start_matches("http://")).await.expect("connected")
}

/// Everything that comes until the other side closes.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("closed in time");
    read.expect("closed cleanly");
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_the_answer_arrives() {
    let world = World::new().await;
    let huge = vec![b' '; 100 * 1024 * 1024];
    for (path, bearer) in
        [("/api/v1/signals", &world.feed), ("/api/v1/marks", &world.feed), ("/api/v1/users", &world.admin)]
    {
        let answer = world.engine.post_raw(path, bearer, "application/json", huge.clone()).await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.text);
        answer.check_problem();
    }
    // Refused before a byte of it is wanted, and still told so.
    let answer = world.engine.post_raw("/api/v1/signals", "nobody", "application/json", huge).await;
    assert_eq!(answer.status, 401);
    let answer = world.engine.post("/api/v1/signals", &world.feed, &signal("after")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_body_of_undeclared_length_is_bounded_too() {
    let world = World::new().await;
    let pieces = futures::stream::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b' '; 64 * 1024]));
    let endless = reqwest::Body::wrap_stream(pieces);
    let answer = world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", endless).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
}

#[tokio::test]
async fn a_mebibyte_is_taken() {
    let world = World::new().await;
    let mut body = signal("large").to_string();
    body += &" ".repeat(1024 * 1024 - body.len());
    let answer = world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", body.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    body.push(' ');
    assert_eq!(world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", body).await.status, 413);
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n").await.expect("sent");
    for n in 0..1_000 {
        // It may close as soon as it has seen enough.
        if stream.write_all(format!("x-{n}: {}\r\n", "y".repeat(100)).as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(world.engine.get("/health", "").await.status, 200);
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    let began = Instant::now();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        writer.write_all(b"GET /health HTTP/1.1\r\n").await.expect("sent");
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if writer.write_all(b"x").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut text = Vec::new();
    tokio::select! {
        // A reset after the close is as good as the close.
        _ = reader.read_to_end(&mut text) => {}
        () = drip => {}
        () = tokio::time::sleep(PATIENCE) => panic!("slow headers are not cut off"),
    }
    assert!(began.elapsed() > Duration::from_secs(5));
}

#[tokio::test]
async fn a_slow_body_is_cut_off_with_an_answer() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    let head = format!(
        "POST /api/v1/signals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\n\r\n{{",
        world.feed
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("application/problem+json"), "{answer}");
}

#[tokio::test]
async fn a_stream_that_stalls_in_a_line_is_ended_with_a_problem() {
    let world = World::new().await;
    let mut stream = connect(&world).await;
    let line = signal("first").to_string();
    let request = format!(
        "POST /api/v1/signals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{line}\n{{\r\n",
        world.feed,
        line.len() + 2
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let answer = read_all(&mut stream).await;
    assert!(answer.contains("\"decided\":1") && answer.contains("\"status\":408"), "{answer}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let world = World::new().await;
    for sent in [
        "\0\u{1}\u{2}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /api/v1/signals HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ] {
        let mut stream = connect(&world).await;
        stream.write_all(sent.as_bytes()).await.expect("sent");
        let answer = read_all(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{sent}: {answer}");
    }
    let answer = world.engine.post("/api/v1/signals", &world.feed, &json!([])).await;
    assert_eq!((answer.status.as_u16(), &answer.body), (200, &json!([])));
}

#[tokio::test]
async fn a_caller_that_closes_its_sending_side_still_gets_its_answer() {
    let world = World::new().await;
    let body = signal("half-closed").to_string();
    let mut stream = connect(&world).await;
    let head = format!(
        "POST /api/v1/signals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        world.feed,
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("half closed");
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("accepted"), "{answer}");
}
