//! Signing in and out, keys and their ends, and who may see the metrics.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::engine::{Answer, Engine, PASSWORD, World, eventually, signal};

#[tokio::test]
async fn a_login_gives_what_the_contract_says() {
    let engine = Engine::start();
    let body = json!({"username": "admin", "password": engine.admin_password()});
    let answer = engine.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!((&answer.body["mfa_enrolled"], &answer.body["refresh_token"]), (&json!(false), &json!(null)));
    for (username, password) in [("admin", "wrong"), ("nobody", "wrong"), ("", ""), ("admin", &"x".repeat(10_000))] {
        let body = json!({"username": username, "password": password});
        let answer = engine.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await;
        assert_eq!(answer.status, 401);
        answer.check_problem();
        assert_eq!(answer.body["detail"], "wrong username or password");
    }
    let log = engine.log();
    assert!(!log.contains("wrong") && !log.contains(&engine.admin_password()), "{log}");
}

#[tokio::test]
async fn a_token_that_was_signed_out_stays_dead_across_a_restart() {
    let world = World::new().await;
    let risk = format!("/api/v1/users/{}/risk-status", world.ann.id);
    let second = world.engine.login("ann", PASSWORD).await;
    let logout = world.engine.call(Method::POST, "/api/v1/auth/logout", Some(&world.ann.token), None).await;
    assert_eq!(logout.status, 204);
    assert_eq!(world.engine.get(&risk, &world.ann.token).await.status, 401);
    assert_eq!(world.engine.get(&risk, &second).await.status, 200);
    let (status, data) = world.engine.terminate();
    assert!(status.success());
    let engine = Engine::start_on(data, &[]);
    assert_eq!(engine.get(&risk, &world.ann.token).await.status, 401);
    assert_eq!(engine.get(&risk, &second).await.status, 200, "the kept key signs across a restart");
}

#[tokio::test]
async fn a_new_password_or_role_ends_the_tokens_before_it() {
    let world = World::new().await;
    let user = format!("/api/v1/users/{}", world.ann.id);
    let risk = format!("{user}/risk-status");
    let change = |body| {
        let (user, world) = (user.clone(), &world);
        async move { world.engine.call(Method::PATCH, &user, Some(&world.admin), Some(&body)).await.status }
    };
    assert_eq!(change(json!({"password": "An0ther-one!"})).await, 200);
    assert_eq!(world.engine.get(&risk, &world.ann.token).await.status, 401);
    let token = world.engine.login("ann", "An0ther-one!").await;
    assert_eq!(world.engine.get(&risk, &token).await.status, 200, "a token of the same second is good");
    assert_eq!(change(json!({"role": "admin"})).await, 200);
    assert_eq!(world.engine.get(&risk, &token).await.status, 401);
    let token = world.engine.login("ann", "An0ther-one!").await;
    assert_eq!(world.engine.get("/api/v1/users", &token).await.status, 200);
    let admin =
        world.engine.get("/api/v1/users", &token).await.body["items"][0]["id"].as_str().expect("an id").to_owned();
    let (itself, demotion) = (format!("/api/v1/users/{admin}"), json!({"role": "user"}));
    let refused = world.engine.call(Method::PATCH, &itself, Some(&world.admin), Some(&demotion)).await;
    assert_eq!(refused.status, 409);
}

#[tokio::test]
async fn a_rotated_key_and_an_ended_feed_are_dead_at_once() {
    let world = World::new().await;
    let send = |key: String| {
        let world = &world;
        async move { world.engine.post("/api/v1/signals", &key, &signal("one")).await.status }
    };
    assert_eq!(send(world.feed.clone()).await, 200);
    let rotate = "/api/v1/feeds/breakout/rotate-secret";
    let rotated = world.engine.call(Method::POST, rotate, Some(&world.admin), None).await;
    let key = rotated.body["api_key"].as_str().expect("a key").to_owned();
    assert!(rotated.body["webhook_secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
    assert_eq!(send(world.feed.clone()).await, 401);
    assert_eq!(send(key.clone()).await, 200);
    let shown = world.engine.get("/api/v1/feeds/breakout", &world.admin).await;
    assert!(!shown.text.contains("nxf_") && !shown.text.contains("whsec_"), "{}", shown.text);
    assert_eq!(world.engine.call(Method::DELETE, "/api/v1/feeds/breakout", Some(&world.admin), None).await.status, 204);
    assert_eq!(send(key).await, 401);
    let again = world.engine.post("/api/v1/feeds", &world.admin, &json!({"name": "breakout"})).await;
    assert_eq!(again.status, 201, "the name is free");
    let log = world.engine.log();
    assert!(!log.contains("nxf_") && !log.contains("whsec_") && !log.contains(&world.ann.token), "{log}");
}

#[tokio::test]
async fn limits_and_disabling_hold_for_the_next_decision() {
    let world = World::new().await;
    let user = format!("/api/v1/users/{}", world.ann.id);
    let tight = json!({"max_daily_loss": "2.00", "timeframes": {"3H": 1}});
    let changed = world.engine.call(Method::PATCH, &format!("{user}/limits"), Some(&world.admin), Some(&tight)).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.body["limits"]["max_daily_loss"], "2.00");
    let risk = world.engine.get(&format!("{user}/risk-status"), &world.ann.token).await;
    assert_eq!(risk.body["daily_loss"]["cap"], "2.00", "{}", risk.text);
    let disabled = world.engine.call(Method::POST, &format!("{user}/disable"), Some(&world.admin), None).await;
    assert_eq!((disabled.status.as_u16(), &disabled.body["trading_enabled"]), (200, &json!(false)));
    let refused = world.engine.post("/api/v1/signals", &world.feed, &signal("a")).await;
    assert_eq!(refused.body["reasons"], json!({"user_disabled": 1}), "{}", refused.text);
    let enabled = world.engine.call(Method::POST, &format!("{user}/enable"), Some(&world.admin), None).await;
    assert_eq!(enabled.body["trading_enabled"], true);
}

#[tokio::test]
async fn lists_are_paged_to_their_end() {
    let world = World::new().await;
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let page = world.engine.get(&format!("/api/v1/users?limit=2{after}"), &world.admin).await.body;
        let items = page["items"].as_array().expect("items");
        assert!((1..=2).contains(&items.len()));
        names.extend(items.iter().map(|user| user["username"].as_str().expect("a name").to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["admin", "ann", "bob"]);
    let stray = world.engine.get("/api/v1/users?after=stray", &world.admin).await;
    assert_eq!((stray.status.as_u16(), &stray.body["items"]), (200, &json!([])));
}

#[tokio::test]
async fn metrics_and_admins_are_held_to_their_networks() {
    let settings = [
        ("METRICS_ALLOWED_IPS", "192.0.2.0/24"),
        ("ADMIN_ALLOWED_IPS", "192.0.2.0/24"),
        ("TRUSTED_PROXIES", "127.0.0.0/8"),
    ];
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &settings);
    let admin = engine.admin().await;
    let ask = |path: &str, from: Option<&str>| {
        let mut request = engine.client.get(format!("{}{path}", engine.base)).bearer_auth(&admin);
        if let Some(from) = from {
            request = request.header("x-forwarded-for", from);
        }
        async move { Answer::of(request.send().await.expect("answered")).await.status.as_u16() }
    };
    for path in ["/api/v1/metrics", "/api/v1/users"] {
        assert_eq!(ask(path, None).await, 403, "{path}");
        assert_eq!(ask(path, Some("198.51.100.1")).await, 403, "{path}");
        assert_eq!(ask(path, Some("192.0.2.1, 198.51.100.1")).await, 403, "what stands left is the caller's word");
        assert_eq!(ask(path, Some("192.0.2.1")).await, 200, "{path}");
    }
}

#[tokio::test]
async fn a_flood_of_logins_is_turned_away_and_others_are_served() {
    let settings = [("BCRYPT_ROUNDS", "12"), ("MAX_LOGIN_ATTEMPTS", "1000")];
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &settings);
    let body = json!({"username": "admin", "password": "wrong"});
    let flood = (0..60).map(|_| engine.call(Method::POST, "/api/v1/auth/login", None, Some(&body)));
    let answers = futures::future::join_all(flood);
    let watch = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let began = std::time::Instant::now();
        assert_eq!(engine.get("/health", "").await.status, 200);
        began.elapsed()
    };
    let (answers, waited) = tokio::join!(answers, watch);
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!refused.is_empty() && refused.len() < 60);
    assert!(refused.iter().all(|answer| answer.header("retry-after").is_some()));
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    eventually("logins are taken again", || async {
        engine.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await.status == 401
    })
    .await;
}
