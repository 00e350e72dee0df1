//! The kill switch as it is used in a panic: whatever is typed, everything stops; only a person resumes.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::engine::{Engine, World, signal};

async fn state(engine: &Engine) -> Value {
    engine.get("/status", "").await.body["risk_engine"]["state"].clone()
}

async fn resume(world: &World) {
    let answer = world.engine.call(reqwest::Method::POST, "/admin/emergency-resume", Some(&world.admin), None).await;
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (200, &json!("active")), "{}", answer.text);
}

#[tokio::test]
async fn whatever_is_typed_stops_everything() {
    let world = World::new().await;
    let typed: [(&str, Vec<u8>); 10] = [
        ("application/x-www-form-urlencoded", b"".to_vec()),
        ("application/x-www-form-urlencoded", b"reason=stop".to_vec()),
        ("application/json", b"".to_vec()),
        ("application/json", b"{}".to_vec()),
        ("application/json", b"{\"reason\":".to_vec()),
        ("application/json", b"\xff\xfe".to_vec()),
        ("text/plain", b"STOP".to_vec()),
        ("image/png", b"{\"scope\":\"feed:breakout\",\"reducing\":true}".to_vec()),
        ("application/json", vec![b'x'; 200_000]),
        ("application/json", b"{\"reason\":\"drill\",\"flatten\":true}".to_vec()),
    ];
    for (media_type, body) in typed {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = world.engine.post_raw("/admin/emergency-stop", &world.admin, media_type, body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["state"]),
            (200, &json!("halted")),
            "{shown}: {}",
            answer.text
        );
        assert_eq!((&answer.body["by"], &answer.body["persisted"]), (&json!("admin"), &json!(true)));
        assert_eq!(answer.body["instances"], json!({"total": 1, "acknowledged": 1, "complete": true}));
        assert_eq!(state(&world.engine).await, "halted");
        resume(&world).await;
    }
}

#[tokio::test]
async fn a_stop_refuses_entries_until_it_is_resumed() {
    let world = World::new().await;
    let stopped = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "drill"})).await;
    let again = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "again"})).await;
    assert_eq!((again.status.as_u16(), &again.body["state"]), (200, &stopped.body["state"]));
    let refused = world.engine.post("/api/v1/signals", &world.feed, &signal("in the stop")).await;
    assert_eq!(refused.body["reasons"], json!({"trading_halted": 1}), "{}", refused.text);
    let health = world.engine.get("/health", "").await;
    assert_eq!((health.status.as_u16(), &health.body["status"]), (200, &json!("degraded")));
    assert_eq!(world.engine.get("/health/ready", "").await.status, 200);
    let scoped = world.engine.post("/admin/emergency-resume", &world.admin, &json!({"scope": {"feed": "x"}})).await;
    assert_eq!((scoped.status.as_u16(), &scoped.body["errors"][0]["field"]), (422, &json!("scope")));
    let scoped =
        world.engine.post("/admin/emergency-resume", &world.admin, &json!({"scope": {"symbol": "EURUSD"}})).await;
    assert_eq!((scoped.status.as_u16(), &scoped.body["state"]), (200, &json!("active")), "{}", scoped.text);
    assert_eq!(scoped.body["still_stopped"][0]["scope"], "global", "{}", scoped.text);
    assert_eq!(state(&world.engine).await, "halted");
    resume(&world).await;
    world.push_mark("EURUSD", "1.08495", "1.08505").await;
    let accepted = world.engine.post("/api/v1/signals", &world.feed, &signal("after")).await;
    assert_eq!(accepted.body["accepted"], 1, "{}", accepted.text);
}

#[tokio::test]
async fn reducing_is_asked_for_by_name() {
    let world = World::new().await;
    let answer = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reducing": true})).await;
    assert_eq!(answer.body["state"], "reducing", "{}", answer.text);
    let refused = world.engine.post("/api/v1/signals", &world.feed, &signal("reducing")).await;
    assert_eq!(refused.body["reasons"], json!({"reducing_only": 1}), "{}", refused.text);
}

#[tokio::test]
async fn a_stop_survives_a_kill_of_the_process() {
    let world = World::new().await;
    world.engine.post("/admin/emergency-stop", &world.admin, &json!({})).await;
    let data = world.engine.kill();
    let engine = Engine::start_on(data, &[]);
    assert_eq!(state(&engine).await, "halted");
    assert_eq!(engine.get("/health/ready", "").await.status, 200);
}

#[tokio::test]
async fn a_stop_is_made_while_the_ledger_cannot_be_written_and_holds_after_a_kill() {
    let world = World::new().await;
    let ledger = rusqlite::Connection::open(world.engine.data_dir().join("nexus.db")).expect("opened");
    ledger.execute_batch("BEGIN EXCLUSIVE").expect("held");
    let began = Instant::now();
    let answer = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "no ledger"})).await;
    assert_eq!((answer.status.as_u16(), &answer.body["state"]), (200, &json!("halted")), "{}", answer.text);
    assert_eq!(answer.body["persisted"], false, "{}", answer.text);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let data = world.engine.kill();
    ledger.execute_batch("ROLLBACK").expect("let go");
    let engine = Engine::start_on(data, &[]);
    assert_eq!(state(&engine).await, "halted");
}

#[tokio::test]
async fn a_body_that_never_arrives_does_not_hold_a_stop() {
    let world = World::new().await;
    for is_cut_off in [false, true] {
        let mut stream = TcpStream::connect(world.engine.base.trim_start_matches("http://")).await.expect("connected");
        let head = format!(
            "POST /admin/emergency-stop HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 100\r\n\r\n{{\"rea",
            world.admin
        );
        let began = Instant::now();
        stream.write_all(head.as_bytes()).await.expect("sent");
        if is_cut_off {
            // Gone in the middle of a word: nobody is there to hear the answer.
            drop(stream);
        } else {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.expect("answered");
            assert_eq!(&answer, b"HTTP/1.1 200");
            assert!(began.elapsed() < Duration::from_secs(3));
        }
        super::engine::eventually("it is halted", || async { state(&world.engine).await == "halted" }).await;
        resume(&world).await;
    }
}

#[tokio::test]
async fn a_stop_passes_when_all_connections_are_taken() {
    let world = World::new().await;
    let address = world.engine.base.trim_start_matches("http://").to_owned();
    let mut crowd = Vec::new();
    // The places are full when the spare ones turn others away.
    let full = loop {
        crowd.push(TcpStream::connect(&address).await.expect("connected"));
        if crowd.len() >= 768 {
            let answer = reqwest::Client::new().get(format!("{}/status", world.engine.base)).send().await;
            break answer.expect("answered");
        }
    };
    assert_eq!(full.status(), 503);
    assert!(full.headers().contains_key("retry-after"));
    let fresh = reqwest::Client::new();
    let stop = fresh.post(format!("{}/admin/emergency-stop", world.engine.base)).bearer_auth(&world.admin);
    assert_eq!(stop.send().await.expect("answered").status(), 200);
    let alive = fresh.get(format!("{}/health/live", world.engine.base)).send().await.expect("answered");
    assert_eq!(alive.status(), 200);
}

#[tokio::test]
async fn a_stop_of_one_thing_leaves_the_rest_alone_survives_a_kill_and_is_resumed_by_name() {
    let World { mut engine, mut admin, feed, ann, .. } = World::new().await;
    let feeds = engine.get("/api/v1/feeds", &admin).await.body["items"].clone();
    let followed = feeds.as_array().into_iter().flatten().find(|feed| feed["name"] == "breakout").expect("it was made");
    let (feed_id, ann) = (followed["id"].clone(), ann.id.clone());
    let scopes =
        [json!({"feed": feed_id}), json!({"user": ann}), json!({"symbol": "EURUSD"}), json!({"venue": "paper"})];
    for (n, scope) in scopes.iter().enumerate() {
        let stop = json!({"scope": scope, "reason": "one thing"});
        let answer = engine.post("/admin/emergency-stop", &admin, &stop).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["scope"], &answer.body["state"]),
            (200, scope, &json!("halted"))
        );
        assert_eq!(
            (&answer.body["persisted"], &answer.body["warnings"]),
            (&json!(true), &Value::Null),
            "{}",
            answer.text
        );
        assert_eq!(state(&engine).await, "active");
        let refused = engine.post("/api/v1/signals", &feed, &signal(&format!("stopped {n}"))).await;
        assert_eq!(refused.body["reasons"], json!({"trading_halted": 1}), "{scope}: {}", refused.text);

        engine = Engine::start_on(engine.kill(), &[]);
        admin = engine.admin().await;
        let stops = engine.get("/admin/stops", &admin).await;
        assert_eq!(stops.body["items"].as_array().map(Vec::len), Some(1), "{}", stops.text);
        assert_eq!((&stops.body["items"][0]["scope"], &stops.body["items"][0]["reason"]), (scope, &json!("one thing")));
        let refused = engine.post("/api/v1/signals", &feed, &signal(&format!("killed {n}"))).await;
        assert_eq!(refused.body["reasons"], json!({"trading_halted": 1}), "{scope}: {}", refused.text);

        let resumed = engine.post("/admin/emergency-resume", &admin, &json!({"scope": scope})).await;
        assert_eq!((resumed.status.as_u16(), &resumed.body["still_stopped"]), (200, &json!([])), "{}", resumed.text);
        assert!(!engine.data_dir().join("HALT").exists());
    }
    for scope in [json!({"symbol": "EURUSDX"}), json!({"venue": "moon"}), json!({"feed": "breakout"})] {
        let answer = engine.post("/admin/emergency-stop", &admin, &json!({"scope": scope})).await;
        assert_eq!(
            (&answer.body["scope"], &answer.body["state"]),
            (&json!("global"), &json!("halted")),
            "{}",
            answer.text
        );
        assert_eq!(answer.body["warnings"].as_array().map(Vec::len), Some(1), "{}", answer.text);
    }
    let nobody = json!({"scope": {"user": "00000000-0000-0000-0000-000000000001"}});
    let answer = engine.post("/admin/emergency-stop", &admin, &nobody).await;
    assert_eq!(answer.body["warnings"].as_array().map(Vec::len), Some(1), "{}", answer.text);
}

#[tokio::test]
async fn a_stop_that_flattens_closes_what_is_open_and_says_by_whom_and_how_completely() {
    let World { engine, admin, feed, ann, .. } = World::new().await;
    let accepted = engine.post("/api/v1/signals", &feed, &signal("held")).await;
    assert_eq!(accepted.body["accepted"], 1, "{}", accepted.text);
    let positions = async || {
        let status = engine.get(&format!("/api/v1/users/{}/risk-status", ann.id), &admin).await;
        status.body["open_positions"].as_array().map(Vec::len)
    };
    super::engine::eventually("it is open", || async { positions().await == Some(1) }).await;
    let elsewhere = json!({"flatten": true, "scope": {"symbol": "GBPUSD"}});
    let answer = engine.post("/admin/emergency-stop", &admin, &elsewhere).await;
    assert_eq!(answer.body["flattened"], json!({"exits": 0, "still_open": 0, "complete": true}), "{}", answer.text);
    assert_eq!(positions().await, Some(1));
    let answer = engine.post("/admin/emergency-stop", &admin, &json!({"flatten": true, "reason": "drill"})).await;
    assert_eq!(answer.body["flattened"], json!({"exits": 1, "still_open": 0, "complete": true}), "{}", answer.text);
    assert_eq!((&answer.body["by"], &answer.body["state"]), (&json!("admin"), &json!("halted")));
    assert_eq!(positions().await, Some(0));
}
