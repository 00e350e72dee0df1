//! Bad input: every kind of it, at every route that reads a body. A clear refusal, nothing changed, nothing broken.

use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Answer, World, signal};

/// Bodies that are malformed for every route that reads JSON.
fn malformed() -> Vec<Vec<u8>> {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000)).into_bytes();
    vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"{".to_vec(),
        b"nonsense".to_vec(),
        b"null".to_vec(),
        b"true".to_vec(),
        b"7".to_vec(),
        b"\"text\"".to_vec(),
        b"{\"no_such_field\":1}".to_vec(),
        b"{\"a\":NaN}".to_vec(),
        b"{}{}".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{\"name\":\"\xff\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
    ]
}

async fn send(world: &World, (method, path, who): &Route, media_type: Option<&str>, body: Vec<u8>) -> Answer {
    let bearer = if *who == "feed" { &world.feed } else { &world.admin };
    let path = path.replace("{id}", &world.ann.id);
    let request =
        world.engine.client.request(method.parse().expect("a method"), format!("{}{path}", world.engine.base));
    let request = request.bearer_auth(bearer).body(body);
    let request = match media_type {
        Some(media_type) => request.header("content-type", media_type),
        None => request,
    };
    Answer::of(request.send().await.expect("answered")).await
}

/// Method, path, and who may call.
type Route = (&'static str, &'static str, &'static str);

const ROUTES: [Route; 7] = [
    ("POST", "/api/v1/auth/login", "admin"),
    ("POST", "/api/v1/signals", "feed"),
    ("POST", "/api/v1/marks", "feed"),
    ("POST", "/api/v1/users", "admin"),
    ("PATCH", "/api/v1/users/{id}", "admin"),
    ("PATCH", "/api/v1/users/{id}/limits", "admin"),
    ("POST", "/api/v1/feeds", "admin"),
];

#[tokio::test]
async fn malformed_bodies_are_refused_everywhere_and_change_nothing() {
    let world = World::new().await;
    let before = world.state().await;
    for route in ROUTES {
        for body in malformed() {
            let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
            let answer = send(&world, &route, Some("application/json"), body).await;
            assert_eq!(answer.status, 400, "{route:?} {shown}: {}", answer.text);
            answer.check_problem();
            assert!(answer.text.len() < 2_000, "the answer does not echo a long body");
        }
        for media_type in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("image/png")] {
            let answer = send(&world, &route, media_type, b"{}".to_vec()).await;
            assert_eq!(answer.status, 415, "{route:?} {media_type:?}: {}", answer.text);
            answer.check_problem();
        }
    }
    assert_eq!(world.state().await, before);
    let log = world.engine.log();
    assert!(!log.contains("panic") && !log.contains("ERROR"), "{log}");
}

/// A signal with one field replaced by a raw piece of JSON.
fn signal_with(field: &str, raw: &str) -> String {
    let mut fields = signal("x").as_object().expect("an object").clone();
    fields.remove(field);
    let text = Value::Object(fields).to_string();
    format!("{},\"{field}\":{raw}}}", text.trim_end_matches('}'))
}

#[tokio::test]
async fn signals_are_refused_by_the_field_that_is_wrong() {
    let world = World::new().await;
    let before = world.state().await;
    let wrong = [
        ("stop_loss", "1e309"),
        ("stop_loss", "1e-400"),
        ("stop_loss", "1e999999999999999999"),
        ("stop_loss", "-1.083"),
        ("stop_loss", "0"),
        ("stop_loss", "1.08300000000000000001"),
        ("take_profit", "\"NaN\""),
        ("take_profit", "\"Infinity\""),
        ("take_profit", "\"\""),
        ("entry_price", "\"1,085\""),
        ("entry_price", "99999999999999999999999999"),
        ("symbol", "\"eur usd\""),
        ("symbol", "\"\""),
        ("side", "\"hold\""),
        ("timeframe", "\"3 hours\""),
        ("order_type", "\"iceberg\""),
        ("issued_at", "\"yesterday\""),
        ("user_id", "\"ann\""),
        ("id", "\"\""),
        ("id", "\"a\\u0000b\""),
    ];
    for (field, raw) in wrong {
        let answer =
            world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", signal_with(field, raw)).await;
        assert_eq!(answer.status, 422, "{field} {raw}: {}", answer.text);
        answer.check_problem();
        assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.text);
    }
    for (field, raw) in
        [("stop_loss", "true"), ("stop_loss", "[1]"), ("symbol", "5"), ("symbol", "\"A\",\"symbol\":\"B\"")]
    {
        let answer =
            world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", signal_with(field, raw)).await;
        assert_eq!(answer.status, 400, "{field} {raw}: {}", answer.text);
    }
    let unknown = signal_with("user_id", &format!("\"{}\"", uuid::Uuid::new_v4()));
    let answer = world.engine.post_raw("/api/v1/signals", &world.feed, "application/json", unknown).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["errors"][0]["field"]),
        (422, &json!("user_id")),
        "{}",
        answer.text
    );
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn a_number_is_taken_exactly_however_it_is_written() {
    let world = World::new().await;
    let body = signal_with("stop_loss", "0.108300e1").replace("\"1.08900\"", "1.08900");
    let answer = world.engine.post_raw("/api/v1/signals", &world.feed, "application/json; charset=utf-8", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let stored = world.engine.get("/api/v1/signals/x", &world.feed).await;
    assert_eq!(stored.body["signal"]["stop_loss"], "1.083");
    assert_eq!(stored.body["signal"]["take_profit"], "1.089");
}

#[tokio::test]
async fn lists_are_refused_as_a_whole_by_element_and_field() {
    let world = World::new().await;
    let before = world.state().await;
    let signals = json!([signal("a"), {"id": "b"}]);
    let answer = world.engine.post("/api/v1/signals", &world.feed, &signals).await;
    assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["field"]), (422, &json!("[1].symbol")));
    let many = vec![signal("a"); 1_001];
    assert_eq!(world.engine.post("/api/v1/signals", &world.feed, &json!(many)).await.status, 422);
    let at = jiff::Timestamp::now().to_string();
    let mark = |symbol: &str, bid: &str| json!({"symbol": symbol, "bid": bid, "ask": "1.2", "at": at});
    for (marks, field) in [
        (json!([mark("EURUSD", "1.1"), mark("NOSUCH", "1.1")]), "[1].symbol"),
        (json!([mark("EURUSD", "1.3")]), "[0].bid"),
        (json!([mark("EURUSD", "0")]), "[0].bid"),
        (json!([{"symbol": "EURUSD"}]), "[0].bid"),
    ] {
        let answer = world.engine.post("/api/v1/marks", &world.feed, &marks).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["errors"][0]["field"]),
            (422, &json!(field)),
            "{}",
            answer.text
        );
    }
    assert_eq!(world.engine.post("/api/v1/marks", &world.feed, &json!(mark("EURUSD", "1.1"))).await.status, 400);
    assert_eq!(world.state().await, before);
}

#[tokio::test]
async fn a_feed_with_symbols_pushes_the_marks_of_those_alone() {
    let world = World::new().await;
    let made = world.engine.post("/api/v1/feeds", &world.admin, &json!({"name": "fx", "symbols": ["GBPUSD"]})).await;
    let key = made.body["api_key"].as_str().expect("a key");
    let at = jiff::Timestamp::now().to_string();
    let mark = |symbol: &str| json!({"symbol": symbol, "bid": "1.2", "ask": "1.2", "at": at});
    let answer = world.engine.post("/api/v1/marks", key, &json!([mark("GBPUSD"), mark("EURUSD")])).await;
    assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["field"]), (403, &json!("[1].symbol")));
    let answer = world.engine.post("/api/v1/marks", key, &json!([mark("GBPUSD")])).await;
    assert_eq!((answer.status.as_u16(), &answer.body["accepted"]), (200, &json!(1)));
}

#[tokio::test]
async fn users_feeds_and_pages_are_refused_by_the_field_that_is_wrong() {
    let world = World::new().await;
    let user = format!("/api/v1/users/{}", world.ann.id);
    let limits = format!("{user}/limits");
    let new = |field: &str, value: Value| {
        let mut body = json!({"username": "cleo", "password": "Tr1cky-enough", "role": "user", "equity": "1.00"});
        body[field] = value;
        body
    };
    let rows = [
        ("POST", "/api/v1/users", new("password", json!("password")), 422, "password"),
        ("POST", "/api/v1/users", new("password", json!("Cleo-is-1st")), 422, "password"),
        ("POST", "/api/v1/users", new("equity", json!("-1")), 422, "equity"),
        ("POST", "/api/v1/users", new("equity", json!("1e309")), 422, "equity"),
        ("POST", "/api/v1/users", new("role", json!("feed")), 422, "role"),
        ("POST", "/api/v1/users", new("username", json!("ann")), 409, ""),
        ("PATCH", &user, json!({"role": "root"}), 422, "role"),
        ("PATCH", &user, json!({"username": "bob"}), 409, ""),
        ("PATCH", &user, json!({"password": "short"}), 422, "password"),
        ("PATCH", &limits, json!({"max_daily_loss": "10.00"}), 422, "max_daily_loss"),
        ("PATCH", &limits, json!({"max_risk_percent": "1.1"}), 422, "max_risk_percent"),
        ("PATCH", &limits, json!({"timeframes": {"1H": 1}}), 422, "timeframes"),
        ("PATCH", &limits, json!({"max_open_positions": -1}), 422, "max_open_positions"),
        ("POST", "/api/v1/feeds", json!({"name": "a b"}), 422, "name"),
        ("POST", "/api/v1/feeds", json!({"name": "c", "symbols": ["NOSUCH"]}), 422, "symbols"),
        ("POST", "/api/v1/feeds", json!({"name": "breakout"}), 409, ""),
        ("GET", "/api/v1/users?limit=0", Value::Null, 422, "limit"),
        ("GET", "/api/v1/users?limit=1001", Value::Null, 422, "limit"),
        ("GET", "/api/v1/feeds?limit=x", Value::Null, 422, "limit"),
    ];
    let before = world.state().await;
    for (method, path, body, status, field) in rows {
        let body = Some(&body).filter(|body| !body.is_null());
        let method: Method = method.parse().expect("a method");
        let answer = world.engine.call(method.clone(), path, Some(&world.admin), body).await;
        assert_eq!(answer.status, status, "{method} {path} {body:?}: {}", answer.text);
        answer.check_problem();
        if status == 422 {
            assert_eq!(answer.body["errors"][0]["field"], field, "{}", answer.text);
        }
    }
    assert_eq!(world.state().await, before);
}
