//! The written table of keys is the generated one (`UPDATE_REFERENCE=1 cargo test -p nexus-store` writes it anew), and it is
//! what stands in Redis.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use nexus_actors::ports::{ArmedWindow, HotState, InstanceRole};
use nexus_engine::signal::Side;
use nexus_store::RedisHotState;
use nexus_store::hot::KEYS;
use uuid::Uuid;

use crate::hot_contract::{answer, at_version, eventually, mark, presence, state};
use crate::story::{NOON, user_id};
use nexus_testbed::Kind;

const OPENING: &str = "\
# The hot state in Redis

This page is generated from the table of keys in `store/src/hot/keys.rs`.

With `REDIS_URL` set, Nexus keeps fast copies of what the ledger holds in Redis 7 or newer (one server or a failover pair;
not a cluster). Redis may vanish, hang, be emptied, restart empty or come back with yesterday's data at any time: it is
never the only memory, and nothing that is read from it admits an entry, decides a signal or makes a revoked token good.

Every key and channel begins with `NEXUS_REDIS_PREFIX` and the id of the ledger, drawn when the ledger was made and kept in
its table `ledger_identity`: `nexus:0123…cdef:account:USER`. A Redis that has served another database is not believed.
";

const CLOSING: &str = "
## How it is written and read

- Nothing waits for a write. What is put goes into a bounded queue, the newest of each key wins, and a task sends what has
  gathered ten times a second; revoked tokens and trading states go at once. While Redis is away the queue fills up to its
  bounds, then what has waited longest is dropped: the ledger has it.
- A read takes at most 100 ms. Whoever waits in vain tells everybody; until a heartbeat (each second, five a second while it is
  away) finds Redis well, nobody asks. `/health` then says `degraded` with `hot_state: down`, and `nexus_hot_state_up` is 0.
  Errors are counted in `nexus_hot_errors_total` by operation.
- Where the newest has to win, a script compares the first 20 bytes, in Redis as in the queue: an instance that was paused
  replaces nothing newer.
- Revoked tokens and failed logins are kept in the memory of each process, too. A Redis that has forgotten, whether it was
  restarted or emptied, is told again within a second. Revoked tokens are in the ledger besides, read at the start and twice
  a second. Failed logins are the one thing here that the ledger does not hold: when Redis is emptied while the engine is
  down, locked names are free again.
- A hint can be lost; whoever is connected again looks at the ledger as if there had been one.

## Setting Redis up

`maxmemory-policy noeviction` (what is evicted is only asked of the ledger, but a full Redis should be seen: it is
`down`), persistence as you like (none is needed), a password in the URL (`redis://:password@host:6379/0`), TLS with
`rediss://` and the certificates of the system or of `SSL_CERT_FILE`. About 4 KiB for each account that traded within a week
and at most some 200 MB of answers.
";

fn reference() -> String {
    let mut text = OPENING.to_owned();
    text.push_str("\n| key | type | value | lives | written by | read by |\n|---|---|---|---|---|---|\n");
    for row in KEYS {
        writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            row.name, row.kind, row.value, row.ttl, row.written, row.read
        )
        .unwrap();
    }
    text + CLOSING
}

#[test]
fn the_written_table_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/HOT_STATE.md");
    let generated = reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "docs/HOT_STATE.md is out of date: run this test with UPDATE_REFERENCE=1");
}

/// The longest that a key may live, in milliseconds; -1 for ever.
fn life_max_ms(name: &str) -> i64 {
    let seconds = match name {
        "account" => 7 * 24 * 3_600,
        "window" | "login" | "revoked" => 3_600,
        "answer" => 600,
        "mark" => 24 * 3_600,
        "instance" => 5,
        "state" | "instances" => return -1,
        other => panic!("nothing is said of {other}"),
    };
    seconds * 1_000
}

#[tokio::test]
async fn what_stands_in_redis_is_in_the_table() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let folder = tempfile::tempdir().unwrap();
    let server = Kind::Redis.private(folder.path());
    let hot = RedisHotState::open(&server.url, "nexus", Uuid::nil()).await.unwrap();
    hot.put_account(at_version(1));
    hot.put_trading_state(state(1));
    hot.put_mark(mark(1));
    hot.put_answer(answer("a", 1));
    hot.revoke_token("token".into(), jiff::Timestamp::now().as_second() + 3_600);
    hot.login_failed("ann", HOUR).await;
    hot.arm_duplicate_window(ArmedWindow {
        user: user_id(1),
        symbol: mark(1).symbol,
        side: Side::Buy,
        timeframe: "3H".parse().unwrap(),
        accepted_at: NOON,
        lasts: HOUR,
    });
    hot.announce(presence("one", InstanceRole::Owner));
    hot.settled().await;
    eventually("it is announced", async || !hot.instances().await.is_empty()).await;

    let mut redis = redis::Client::open(server.url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await.unwrap();
    let mut seen = BTreeSet::new();
    for key in keys {
        let rest = key.strip_prefix(&format!("nexus:{}:", Uuid::nil().simple())).expect("every key has the head");
        let name = rest.split(':').next().unwrap();
        let row = KEYS.iter().find(|row| row.name.split(':').next() == Some(name)).expect("every key is in the table");
        assert_eq!(row.name.split(':').count(), rest.split(':').count(), "{key}");
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await.unwrap();
        assert!(row.kind.starts_with(&kind) || (kind == "zset" && row.kind == "sorted set"), "{key} is a {kind}");
        let left_ms: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut redis).await.unwrap();
        let most_ms = life_max_ms(name);
        let is_fresh = left_ms <= most_ms && (most_ms == -1 || left_ms > most_ms - 10_000.min(most_ms));
        assert!(is_fresh, "{key} lives for {left_ms} ms");
        seen.insert(row.name);
    }
    let table = KEYS.iter().filter(|row| row.kind != "channel").map(|row| row.name);
    assert_eq!(seen, table.collect());
}
