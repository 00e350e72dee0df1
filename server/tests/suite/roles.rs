//! Every route and every kind of caller: who is let in, who is not known, who is known and not meant.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{World, signal};

/// The statuses of a route for: nobody, a bad token, the user, another user, the feed, another feed, an admin.
type Row = (&'static str, &'static str, Option<Value>, [u16; 7]);

const ANYBODY: [u16; 7] = [200; 7];
const ADMINS_200: [u16; 7] = [401, 401, 403, 403, 403, 403, 200];
const ADMINS_201: [u16; 7] = [401, 401, 403, 403, 403, 403, 201];
const ADMINS_204: [u16; 7] = [401, 401, 403, 403, 403, 403, 204];
const OWNER: [u16; 7] = [401, 401, 200, 403, 403, 403, 200];
const FEEDS: [u16; 7] = [401, 401, 403, 403, 200, 200, 403];

fn rows(login: Value, ann: &str) -> Vec<Row> {
    let at = jiff::Timestamp::now().to_string();
    let marks = json!([{"symbol": "EURUSD", "bid": "1.08495", "ask": "1.08505", "at": at}]);
    let user = json!({"username": "cleo", "password": "Tr1cky-enough", "equity": "1.00"});
    let subscriber = format!("/api/v1/feeds/ended/subscribers/{ann}");
    let subscriber: &'static str = subscriber.leak();
    vec![
        ("POST", "/api/v1/auth/login", Some(login), ANYBODY),
        ("POST", "/api/v1/signals", Some(signal("table")), FEEDS),
        ("GET", "/api/v1/signals/{signal_id}", None, [401, 401, 403, 403, 200, 403, 200]),
        ("POST", "/api/v1/marks", Some(marks), FEEDS),
        ("GET", "/api/v1/users/{id}/risk-status", None, OWNER),
        ("GET", "/api/v1/users/{id}/decisions", None, OWNER),
        ("GET", "/api/v1/users/{id}/orders", None, OWNER),
        ("GET", "/api/v1/users/{id}/positions", None, OWNER),
        ("GET", "/api/v1/users/{id}/fills", None, OWNER),
        ("GET", "/api/v1/users", None, ADMINS_200),
        ("POST", "/api/v1/users", Some(user), ADMINS_201),
        ("GET", "/api/v1/users/{id}", None, ADMINS_200),
        ("PATCH", "/api/v1/users/{id}", Some(json!({"username": "anna"})), ADMINS_200),
        ("PATCH", "/api/v1/users/{id}/limits", Some(json!({"max_daily_loss": "5.00"})), ADMINS_200),
        ("POST", "/api/v1/users/{id}/disable", None, ADMINS_200),
        ("POST", "/api/v1/users/{id}/enable", None, ADMINS_200),
        ("GET", "/api/v1/feeds", None, ADMINS_200),
        ("POST", "/api/v1/feeds", Some(json!({"name": "ended"})), ADMINS_201),
        ("GET", "/api/v1/feeds/ended", None, ADMINS_200),
        ("POST", "/api/v1/feeds/ended/rotate-secret", None, ADMINS_200),
        ("PUT", subscriber, Some(json!({})), ADMINS_204),
        ("DELETE", subscriber, None, ADMINS_204),
        ("DELETE", "/api/v1/feeds/ended", None, ADMINS_204),
        ("POST", "/admin/emergency-stop", None, ADMINS_200),
        ("POST", "/admin/emergency-resume", None, ADMINS_200),
        ("GET", "/admin/stops", None, ADMINS_200),
        ("GET", "/health", None, ANYBODY),
        ("GET", "/health/live", None, ANYBODY),
        ("GET", "/health/ready", None, ANYBODY),
        ("GET", "/status", None, ANYBODY),
        ("GET", "/api/v1/metrics", None, ANYBODY),
        ("GET", "/api/v1/openapi.json", None, ANYBODY),
        ("GET", "/docs", None, ANYBODY),
        // Last: whoever is let in is signed out.
        ("POST", "/api/v1/auth/logout", None, [401, 401, 204, 204, 403, 403, 204]),
    ]
}

#[tokio::test]
async fn every_route_lets_in_whom_it_is_for() {
    let world = World::new().await;
    let engine = &world.engine;
    let sent = engine.post("/api/v1/signals", &world.feed, &signal("shown")).await;
    let signal_id = sent.body["signal_id"].as_str().expect("an id").to_owned();
    let login = json!({"username": "admin", "password": engine.admin_password()});
    let rows = rows(login, &world.ann.id);
    check_that_all_routes_are_here(&engine.get("/api/v1/openapi.json", "").await.body, &rows);
    let bad = world.ann.token.replace('.', ".x");
    let callers = [
        ("nobody", None),
        ("a bad token", Some(bad.as_str())),
        ("the user", Some(world.ann.token.as_str())),
        ("another user", Some(world.bob.token.as_str())),
        ("the feed", Some(world.feed.as_str())),
        ("another feed", Some(world.other_feed.as_str())),
        ("an admin", Some(world.admin.as_str())),
    ];
    for (method, template, body, expected) in rows {
        let path = template.replace("{id}", &world.ann.id).replace("{signal_id}", &signal_id);
        for ((who, bearer), status) in callers.iter().zip(expected) {
            let method: Method = method.parse().expect("a method");
            let answer = engine.call(method.clone(), &path, *bearer, body.as_ref()).await;
            assert_eq!(answer.status, status, "{method} {template} by {who}: {}", answer.text);
            if status >= 400 {
                answer.check_problem();
            }
        }
    }
}

/// The document names every route; so does the table.
fn check_that_all_routes_are_here(document: &Value, rows: &[Row]) {
    let paths = document["paths"].as_object().expect("paths");
    let documented: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("methods").keys();
            methods.map(move |method| format!("{} {}", method.to_uppercase(), shape(path)))
        })
        .collect();
    let tested: BTreeSet<String> = rows.iter().map(|(method, path, ..)| format!("{method} {}", shape(path))).collect();
    assert_eq!(documented, tested);
}

/// A path with its variable parts blotted out.
fn shape(path: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    for at in 1..parts.len() {
        let is_variable = parts[at].starts_with('{') || parts[at] == "ended" || parts[at - 1] == "subscribers";
        if is_variable {
            parts[at] = "*";
        }
    }
    parts.join("/")
}

#[tokio::test]
async fn what_is_not_there_is_not_found_once_its_asker_is_known() {
    let world = World::new().await;
    let unknown = uuid::Uuid::new_v4();
    let of_admin = [
        ("GET", format!("/api/v1/users/{unknown}")),
        ("GET", "/api/v1/users/nonsense".to_owned()),
        ("GET", "/api/v1/users/nonsense/risk-status".to_owned()),
        ("GET", format!("/api/v1/users/{unknown}/risk-status")),
        ("GET", format!("/api/v1/users/{unknown}/orders")),
        ("POST", format!("/api/v1/users/{unknown}/disable")),
        ("GET", "/api/v1/feeds/nonsense".to_owned()),
        ("DELETE", format!("/api/v1/feeds/{unknown}")),
        ("PUT", format!("/api/v1/feeds/breakout/subscribers/{unknown}")),
        ("PUT", "/api/v1/feeds/breakout/subscribers/ann".to_owned()),
        ("GET", format!("/api/v1/signals/{unknown}")),
        ("GET", "/api/v1/signals/nonsense".to_owned()),
        ("GET", "/api/v2/users".to_owned()),
        ("GET", "/".to_owned()),
        ("GET", "/docs/nonsense".to_owned()),
    ];
    for (method, path) in of_admin {
        let answer = world.engine.call(method.parse().expect("a method"), &path, Some(&world.admin), None).await;
        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text);
        answer.check_problem();
    }
    let answer = world.engine.call(Method::DELETE, "/api/v1/signals", Some(&world.admin), None).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    answer.check_problem();
}
