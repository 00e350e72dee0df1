//! Signals from outside: decided once, answered alike when repeated, streamed in order.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::engine::{Answer, World, eventually, signal};

#[tokio::test]
async fn a_signal_becomes_a_position_that_its_user_sees() {
    let world = World::new().await;
    let answer = world.engine.post("/api/v1/signals", &world.feed, &signal("opt-1")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!((&answer.body["decided"], &answer.body["accepted"]), (&json!(1), &json!(1)), "{}", answer.text);
    let decision = &answer.body["decisions"][0];
    assert_eq!((&decision["verdict"], &decision["user_id"]), (&json!("accepted"), &json!(world.ann.id)));
    let user = format!("/api/v1/users/{}", world.ann.id);
    let (risk, token) = (format!("{user}/risk-status"), &world.ann.token);
    eventually("the position is open", || async {
        let status = world.engine.get(&risk, token).await.body;
        status["open_positions"].as_array().is_some_and(|positions| positions.len() == 1)
    })
    .await;
    let status = world.engine.get(&risk, token).await.body;
    assert_eq!((&status["trading_state"], &status["timeframes"]["3H"]["used"]), (&json!("active"), &json!(1)));
    assert!(status["open_positions"][0]["unrealized"].is_string(), "{status}");
    for part in ["decisions", "orders", "positions", "fills"] {
        let list = world.engine.get(&format!("{user}/{part}"), token).await.body;
        assert_eq!((list["items"].as_array().map(Vec::len), &list["next"]), (Some(1), &Value::Null), "{part}: {list}");
    }
    let stored = world.engine.get("/api/v1/signals/opt-1", &world.feed).await.body;
    assert_eq!((&stored["decisions"][0], &stored["pending"]), (decision, &json!(0)));
}

#[tokio::test]
async fn a_repeat_is_answered_alike_and_another_signal_under_its_key_is_refused() {
    let world = World::new().await;
    let first = world.engine.post("/api/v1/signals", &world.feed, &signal("k")).await;
    let again = world.engine.post("/api/v1/signals", &world.feed, &signal("k")).await;
    let mut expected = first.body.clone();
    expected["duplicate"] = json!(true);
    assert_eq!((again.status.as_u16(), &again.body), (200, &expected));
    let mut other = signal("k");
    other["take_profit"] = json!("1.08901");
    let refused = world.engine.post("/api/v1/signals", &world.feed, &other).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    refused.check_problem();
    // Another feed's key of the same name is another signal.
    let foreign = world.engine.post("/api/v1/signals", &world.other_feed, &signal("k")).await;
    assert_eq!((foreign.status.as_u16(), &foreign.body["duplicate"]), (200, &json!(false)));
}

#[tokio::test]
async fn the_key_may_stand_in_a_header() {
    let world = World::new().await;
    let mut body = signal("");
    body.as_object_mut().expect("an object").remove("id");
    let send = |name: &'static str, value: &'static str, body: Value| {
        let request = world.engine.client.post(format!("{}/api/v1/signals", world.engine.base));
        let request = request.bearer_auth(&world.feed).header(name, value).json(&body);
        async move { Answer::of(request.send().await.expect("answered")).await }
    };
    let first = send("webhook-id", "msg-1", body.clone()).await;
    let again = send("idempotency-key", "msg-1", body.clone()).await;
    let in_list = send("idempotency-key", "msg-1", json!([body])).await;
    assert_eq!(first.body["duplicate"], false, "{}", first.text);
    assert_eq!(again.body["signal_id"], first.body["signal_id"]);
    assert_eq!(in_list.body[0]["signal_id"], first.body["signal_id"], "{}", in_list.text);
    // In a longer list one key cannot name them all.
    let list = send("idempotency-key", "msg-2", json!([body, body])).await;
    assert_ne!(list.body[0]["signal_id"], list.body[1]["signal_id"], "{}", list.text);
}

#[tokio::test]
async fn a_list_is_decided_and_answered_in_its_order() {
    let world = World::new().await;
    let list: Vec<Value> = (0..300).map(|n| signal(&format!("s{n}"))).collect();
    let answer = world.engine.post("/api/v1/signals", &world.feed, &json!(list)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    for (n, one) in answer.body.as_array().expect("a list").iter().enumerate() {
        let alone = world.engine.post("/api/v1/signals", &world.feed, &signal(&format!("s{n}"))).await;
        assert_eq!(one["signal_id"], alone.body["signal_id"], "{n}");
        assert_eq!(one["accepted"], alone.body["accepted"], "{n}");
    }
    let accepted = answer.body.as_array().expect("a list").iter().map(|one| one["accepted"] == 1);
    let expected = (0..300).map(|n| n == 0);
    assert!(accepted.eq(expected), "one trade a day on 3H, the first of them: {}", answer.text);
    let mut reused = signal("s1");
    reused["side"] = json!("sell");
    let mixed = world.engine.post("/api/v1/signals", &world.feed, &json!([signal("s0"), reused])).await;
    assert_eq!((mixed.status.as_u16(), &mixed.body[1]["status"]), (207, &json!(409)), "{}", mixed.text);
}

#[tokio::test]
async fn a_stream_is_answered_line_by_line_in_order_and_survives_bad_lines() {
    let world = World::new().await;
    let long = format!("{{\"id\":\"{}\"}}", "x".repeat(1024 * 1024));
    let mut body = String::new();
    for n in 0..600 {
        body += &match n % 5 {
            3 => "nonsense".to_owned(),
            4 if n < 20 => long.clone(),
            4 => "{\"id\":\"no more\"}".to_owned(),
            _ => signal(&format!("line {n}")).to_string(),
        };
        body += if n % 7 == 0 { "\r\n\n" } else { "\n" };
    }
    let answer = world.engine.post_raw("/api/v1/signals", &world.feed, "application/x-ndjson", body).await;
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 600);
    for (n, line) in lines.iter().enumerate() {
        match n % 5 {
            3 => assert_eq!(line["status"], 400, "{n} {line}"),
            4 if n < 20 => assert_eq!(line["status"], 413, "{n} {line}"),
            4 => assert_eq!(line["status"], 422, "{n} {line}"),
            _ => {
                let stored = format!("/api/v1/signals/line%20{n}");
                let stored = world.engine.get(&stored, &world.feed).await;
                assert_eq!(line["signal_id"], stored.body["signal_id"], "{n} {line}");
            }
        }
    }
}

/// A stream whose lines are sent one by one, and its answer.
async fn open_stream(world: &World) -> (mpsc::Sender<Bytes>, reqwest::Response) {
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    let request = world.engine.client.post(format!("{}/api/v1/signals", world.engine.base)).bearer_auth(&world.feed);
    let request = request.header("content-type", "application/x-ndjson").body(reqwest::Body::wrap_stream(pieces));
    (sender, request.send().await.expect("answered"))
}

#[tokio::test]
async fn a_line_is_answered_before_the_next_is_sent() {
    let world = World::new().await;
    let (sender, response) = open_stream(&world).await;
    let mut answers = response.bytes_stream();
    for n in 0..3 {
        sender.send(format!("{}\n", signal(&format!("live {n}"))).into()).await.expect("taken");
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.next()).await.expect("in time");
        let answer: Value = serde_json::from_slice(&answer.expect("a line").expect("whole")).expect("JSON");
        assert_eq!(answer["duplicate"], false, "{answer}");
    }
    drop(sender);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_stream_ends_when_its_key_does() {
    let world = World::new().await;
    let (sender, response) = open_stream(&world).await;
    let mut answers = response.bytes_stream();
    sender.send(format!("{}\n", signal("before")).into()).await.expect("taken");
    answers.next().await.expect("a line").expect("whole");
    let rotate = "/api/v1/feeds/breakout/rotate-secret";
    assert_eq!(world.engine.call(Method::POST, rotate, Some(&world.admin), None).await.status, 200);
    sender.send(format!("{}\n", signal("after")).into()).await.expect("taken");
    let answer: Value = serde_json::from_slice(&answers.next().await.expect("a line").expect("whole")).expect("JSON");
    assert_eq!(answer["status"], 401, "{answer}");
    assert!(answers.next().await.is_none());
}
