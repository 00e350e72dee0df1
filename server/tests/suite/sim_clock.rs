//! A simulated clock: time comes with the marks, and each thing is carried to its end before the next.
//!
//! No test here waits or asks twice: an answer says that everything is at rest, so what follows it must be there.

use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Engine, World, command, feed, member, signal};

/// An engine of 2017 with a user who follows a feed.
async fn world() -> World {
    world_on(Engine::simulated_on(tempfile::tempdir().expect("a folder"), &[])).await
}

async fn world_on(engine: Engine) -> World {
    let admin = engine.admin().await;
    let (ann, bob) = (member(&engine, &admin, "ann").await, member(&engine, &admin, "bob").await);
    let (feed, other_feed) = (feed(&engine, &admin, "breakout").await, feed(&engine, &admin, "other").await);
    let subscription = format!("/api/v1/feeds/breakout/subscribers/{}", ann.id);
    engine.call(Method::PUT, &subscription, Some(&admin), Some(&json!({}))).await;
    let world = World { engine, admin, ann, bob, feed, other_feed };
    let answer = world.push_mark_at("1.08495", "1.08505", "2017-04-19T09:00:00Z").await;
    assert_eq!(answer.body["accepted"], 1, "{}", answer.text);
    world
}

impl World {
    async fn of_ann(&self, what: &str) -> Value {
        self.engine.get(&format!("/api/v1/users/{}/{what}", self.ann.id), &self.admin).await.body
    }

    async fn trading_time(&self) -> Value {
        self.engine.get("/status", &self.admin).await.body["trading_time"].clone()
    }
}

#[tokio::test]
async fn an_answer_says_that_everything_is_at_rest() {
    let world = world().await;
    for n in 0..20 {
        let day = format!("2017-05-{:02}", n + 1);
        world.push_mark_at("1.08495", "1.08505", &format!("{day}T09:00:00Z")).await;
        let answer = world.engine.post("/api/v1/signals", &world.feed, &signal(&day)).await;
        assert_eq!(answer.body["accepted"], 1, "{}", answer.text);
        assert_eq!(world.of_ann("orders").await["items"][0]["status"], "filled", "the entry of {day}");
        let target = world.push_mark_at("1.08905", "1.08915", &format!("{day}T10:00:00Z")).await;
        assert_eq!(target.body["accepted"], 1);
        let status = world.of_ann("risk-status").await;
        assert_eq!(status["open_positions"], json!([]), "the exit of {day}");
        assert_eq!(status["day"], day);
    }
    let fills = world.of_ann("fills").await;
    assert_eq!(fills["items"][0]["at"], "2017-05-20T10:00:00Z", "a fill has the time of its mark");
}

#[tokio::test]
async fn time_is_the_newest_marks_and_outlives_a_kill() {
    let world = world().await;
    assert_eq!(world.trading_time().await, "2017-04-19T09:00:00Z");
    world.push_mark_at("1.08500", "1.08510", "2017-04-19T09:30:00Z").await;
    let older = world.push_mark_at("1.07000", "1.07010", "2017-04-19T09:15:00Z").await;
    assert_eq!(older.body["ignored"], 1);
    assert_eq!(world.trading_time().await, "2017-04-19T09:30:00Z");
    let World { engine, feed, ann, bob, admin, other_feed } = world;
    let engine = Engine::simulated_on(engine.kill(), &[]);
    let world = World { engine, feed, ann, bob, admin, other_feed };
    assert_eq!(world.trading_time().await, "2017-04-19T09:30:00Z");
    assert_eq!(world.push_mark_at("1.08500", "1.08510", "2017-04-19T09:30:00Z").await.body["ignored"], 1);
    // The board is as it was: a signal needs no new mark.
    let answer = world.engine.post("/api/v1/signals", &world.feed, &signal("after")).await;
    assert_eq!(answer.body["accepted"], 1, "{}", answer.text);
    assert_eq!(world.of_ann("decisions").await["items"][0]["at"], "2017-04-19T09:30:00Z");
}

#[tokio::test]
async fn a_jump_that_waits_for_its_second_mark_waits_on_after_a_kill() {
    let world = world().await;
    let jump = world.push_mark_at("1.18500", "1.18510", "2017-04-19T10:00:00Z").await;
    assert_eq!(jump.body["unconfirmed"], 1);
    let World { engine, feed, ann, bob, admin, other_feed } = world;
    let engine = Engine::simulated_on(engine.kill(), &[]);
    let world = World { engine, feed, ann, bob, admin, other_feed };
    let second = world.push_mark_at("1.18510", "1.18520", "2017-04-19T10:01:00Z").await;
    assert_eq!(second.body["accepted"], 1, "{}", second.text);
}

#[tokio::test]
async fn what_is_called_the_same_has_the_same_ids_in_two_runs() {
    let (one, two) = (world().await, world().await);
    assert_eq!(one.ann.id, two.ann.id);
    assert_ne!(one.ann.id, one.bob.id);
    let decided = |answer: &Value| answer["decisions"][0].clone();
    let (first, second) = (
        one.engine.post("/api/v1/signals", &one.feed, &signal("same")).await.body,
        two.engine.post("/api/v1/signals", &two.feed, &signal("same")).await.body,
    );
    assert_eq!(decided(&first), decided(&second));
    assert_eq!(first["accepted"], 1);
}

#[tokio::test]
async fn a_folder_has_one_kind_of_time_and_production_has_the_walls() {
    let refused = |data: &std::path::Path, sim: bool, settings: &[(&str, &str)]| {
        let mut command = command(data, settings);
        if sim {
            command.arg("--sim-clock");
        }
        let output = command.output().expect("run");
        (output.status.code(), super::engine::log(data))
    };
    let secret = ("SECRET_KEY", "9f2c1e7ab04d58633ce1907f5a2bd84416fe70c39d25b8a1");
    let new = tempfile::tempdir().expect("a folder");
    let (code, log) = refused(new.path(), true, &[("ENVIRONMENT", "production"), secret, ("BCRYPT_ROUNDS", "12")]);
    assert_eq!(code, Some(2), "{log}");
    assert!(log.contains("--sim-clock is refused in production"), "{log}");
    let simulated = Engine::simulated_on(tempfile::tempdir().expect("a folder"), &[]).kill();
    let (code, log) = refused(simulated.path(), false, &[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("belongs to a simulated clock"), "{log}");
    let real = Engine::start().kill();
    let (code, log) = refused(real.path(), true, &[]);
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("was not begun by a simulated clock"), "{log}");
}
