//! Two accounts told by hand, as the engine's API would tell them, and every figure computed on paper beside it.
//!
//! Ann begins with 1,000.00 and Bob with 500.00. What each trade made stands at its line; the sums stand in the tests, so
//! that whoever doubts a figure of a report can follow it here with a pencil.

use std::time::Duration;

use serde_json::{Value, json};

use super::records::{Account, Answers};
use super::{Report, RunFacts, RunUser};
use crate::wire::time;

const FEED: &str = "00000000-0000-0000-0000-0000000000fe";
const OTHER_FEED: &str = "00000000-0000-0000-0000-0000000000ff";

/// The record of one user, oldest first.
pub(super) struct Record {
    username: &'static str,
    start: &'static str,
    pub(super) answers: Answers,
}

/// What a position is opened with: side, quantity, price and stop.
type Entry = (&'static str, &'static str, &'static str, &'static str);

impl Record {
    fn new(username: &'static str, start: &'static str, equity: &str) -> Self {
        let limits = json!({"max_risk_percent": "1.0", "timeframes": {"3H": 3, "6H": 2, "9H": 2},
            "max_open_positions": 5, "max_orders_per_minute": 60, "max_exposure": "250000.00",
            "slippage_allowance_percent": "0.1"});
        let answers = Answers {
            user: json!({"currency": "USD", "limits": limits}),
            risk_status: json!({"equity": equity, "open_positions": []}),
            decisions: Vec::new(),
            orders: Vec::new(),
            fills: Vec::new(),
            positions: Vec::new(),
        };
        Self { username, start, answers }
    }

    fn refused(&mut self, n: u32, key: &str, at: &str, reasons: &[&str]) {
        self.answers.decisions.push(json!({"decision_id": decision(n), "signal_key": key, "feed_id": FEED,
            "at": at, "verdict": "rejected", "reasons": reasons}));
    }

    /// An acceptance and its entry order; `risk` is the risk, what was used before, and the equity.
    fn accepted(&mut self, n: u32, at: &str, timeframe: &str, entry: Entry, risk: (&str, &str, &str)) {
        let (side, quantity, price, stop) = entry;
        self.answers.decisions.push(json!({"decision_id": decision(n), "signal_key": format!("k{n}"), "feed_id": FEED,
            "at": at, "verdict": "accepted", "client_order_id": order(n, "e"), "side": side, "timeframe": timeframe,
            "quantity": quantity, "sized_at": price, "stop_loss": stop, "take_profit": "1.11500", "risk": risk.0,
            "used_before": risk.1, "cap": "9.99", "equity": risk.2}));
    }

    fn order(&mut self, n: u32, leg: &str, purpose: &str, filled: &str, status: &str) {
        self.answers
            .orders
            .push(json!({"client_order_id": order(n, leg), "purpose": purpose, "filled_quantity": filled,
            "status": status, "created_at": "2026-01-05T09:00:01Z"}));
    }

    /// A fill; `what` is side, quantity and price, `money` the fee and what it realised with it.
    fn fill(&mut self, n: u32, leg: &str, at: &str, what: (&str, &str, &str), money: (&str, &str)) {
        self.answers.fills.push(json!({"client_order_id": order(n, leg), "side": what.0, "quantity": what.1,
            "price": what.2, "fee": money.0, "realized": money.1, "at": at}));
    }

    /// A position; `left` is what is open of it and the last stop.
    fn position(&mut self, n: u32, entry: Entry, left: (&str, &str), realized: &str, times: (&str, Option<&str>)) {
        let position = json!({"decision_id": decision(n), "symbol": "EURUSD", "side": entry.0, "quantity": left.0,
            "entry_price": entry.2, "stop_loss": left.1, "unrealized": times.1.is_none().then_some("2.00"),
            "realized": realized, "opened_at": times.0, "closed_at": times.1});
        if times.1.is_none() {
            self.answers.risk_status["open_positions"] = json!([position.clone()]);
        }
        self.answers.positions.push(position);
    }

    /// A whole trade of one entry and one exit at one price each; `exit` is purpose, time, price and the last stop.
    fn trade(&mut self, n: u32, at: &str, entry: Entry, exit: [&str; 4], fee: &str, realized: [&str; 3]) {
        let (side, quantity, price, _) = entry;
        let [purpose, closed_at, exit_price, stop] = exit;
        let other_side = if side == "buy" { "sell" } else { "buy" };
        self.order(n, "e", "entry", quantity, "filled");
        self.order(n, "x1", purpose, quantity, "filled");
        self.fill(n, "e", at, (side, quantity, price), (fee, realized[0]));
        self.fill(n, "x1", closed_at, (other_side, quantity, exit_price), (fee, realized[1]));
        self.position(n, entry, ("0.00", stop), realized[2], (at, Some(closed_at)));
    }

    fn account(mut self) -> Account {
        let user = self.user();
        let Answers { decisions, orders, fills, positions, .. } = &mut self.answers;
        for list in [decisions, orders, fills, positions] {
            // The engine answers newest first.
            list.reverse();
        }
        Account::of(&user, FEED, &self.answers).expect("a record")
    }

    fn user(&self) -> RunUser {
        let starting_equity = self.start.parse().expect("an amount");
        RunUser { id: self.username.to_owned(), username: self.username.to_owned(), starting_equity }
    }
}

fn decision(n: u32) -> String {
    format!("00000000-0000-0000-0000-{n:012}")
}

fn order(n: u32, leg: &str) -> String {
    format!("{n:032}-{leg}")
}

/// 15.51 - 5.04 - 2.02 + 0.38 - 0.04 = 8.79 by the feed, and 1.00 by another one.
fn ann() -> Record {
    let mut ann = Record::new("ann", "1000.00", "1009.79");
    // Won, the target filled in two parts: 400 * 0.0150 + 600 * 0.0160 = 15.60, fees 0.04 + 0.02 + 0.03 = 0.09.
    let entry = ("buy", "1000.00", "1.10000", "1.09500");
    ann.accepted(1, "2026-01-05T09:00:00Z", "3H", entry, ("5.00", "0.00", "1000.00"));
    ann.order(1, "e", "entry", "1000.00", "filled");
    ann.order(1, "x1", "take_profit", "1000.00", "filled");
    ann.fill(1, "e", "2026-01-05T09:00:00Z", ("buy", "1000.00", "1.10000"), ("0.04", "-0.04"));
    ann.fill(1, "x1", "2026-01-05T10:00:00Z", ("sell", "400.00", "1.11500"), ("0.02", "5.98"));
    ann.fill(1, "x1", "2026-01-05T10:15:00Z", ("sell", "600.00", "1.11600"), ("0.03", "9.57"));
    ann.position(1, entry, ("0.00", "1.09500"), "15.51", ("2026-01-05T09:00:00Z", Some("2026-01-05T10:15:00Z")));
    // Lost by a gap: a short, bought back above its stop by 0.006, where 0.001124 are allowed for. 500 * -0.0100 = -5.00.
    let entry = ("sell", "500.00", "1.12000", "1.12400");
    ann.accepted(2, "2026-01-05T12:00:00Z", "6H", entry, ("2.00", "3.00", "1015.51"));
    let exit = ["stop_loss", "2026-01-06T00:00:00Z", "1.13000", "1.12400"];
    ann.trade(2, "2026-01-05T12:00:00Z", entry, exit, "0.02", ["-0.02", "-5.02", "-5.04"]);
    ann.order(2, "x2", "max_hold", "0.00", "cancelled");
    // Lost at its stop. 200 * -0.0100 = -2.00.
    let entry = ("buy", "200.00", "1.10000", "1.09000");
    ann.accepted(3, "2026-01-06T03:00:00Z", "3H", entry, ("2.20", "5.04", "1010.47"));
    let exit = ["stop_loss", "2026-01-06T06:00:00Z", "1.09000", "1.09000"];
    ann.trade(3, "2026-01-06T03:00:00Z", entry, exit, "0.01", ["-0.01", "-2.01", "-2.02"]);
    // Won by a trailing stop, left beyond the stop by 0.001, where 0.001105 are allowed for. 100 * 0.0040 = 0.40.
    let entry = ("buy", "100.00", "1.10000", "1.09000");
    ann.accepted(4, "2026-01-06T05:30:00Z", "3H", entry, ("1.10", "7.06", "1010.46"));
    let exit = ["trailing", "2026-01-06T07:40:00Z", "1.10400", "1.10500"];
    ann.trade(4, "2026-01-06T05:30:00Z", entry, exit, "0.01", ["-0.01", "0.39", "0.38"]);
    // Open at the end, a third of it left at break-even. 100 * 0 = 0.
    let entry = ("buy", "300.00", "1.10000", "1.09900");
    ann.accepted(5, "2026-01-06T08:00:00Z", "9H", entry, ("0.50", "7.06", "1008.83"));
    ann.order(5, "e", "entry", "300.00", "filled");
    ann.order(5, "x1", "break_even", "100.00", "working");
    ann.fill(5, "e", "2026-01-06T08:00:00Z", ("buy", "300.00", "1.10000"), ("0.03", "-0.03"));
    ann.fill(5, "x1", "2026-01-06T08:30:00Z", ("sell", "100.00", "1.10000"), ("0.01", "-0.01"));
    ann.position(5, entry, ("200.00", "1.10000"), "-0.04", ("2026-01-06T08:00:00Z", None));
    // Came to nothing.
    ann.accepted(6, "2026-01-06T08:00:30Z", "3H", ("buy", "900.00", "1.10000", "1.09000"), ("9.00", "0.98", "1008.80"));
    ann.order(6, "e", "entry", "0.00", "expired");
    ann.refused(7, "k7", "2026-01-06T09:00:00Z", &["day_closed"]);
    ann.refused(8, "k8", "2026-01-06T09:00:00Z", &["day_closed", "open_positions"]);
    // Of another feed, which is not told of but for its part of the equity.
    let entry = ("buy", "100.00", "1.10000", "1.09000");
    ann.accepted(9, "2026-01-06T10:00:00Z", "3H", entry, ("1.00", "0.00", "1008.79"));
    ann.answers.decisions.last_mut().expect("one")["feed_id"] = json!(OTHER_FEED);
    let exit = ["take_profit", "2026-01-06T11:00:00Z", "1.11000", "1.09000"];
    ann.trade(9, "2026-01-06T10:00:00Z", entry, exit, "0.00", ["0.00", "1.00", "1.00"]);
    ann
}

/// 100 * -0.0300 = -3.00, without fees.
fn bob() -> Record {
    let mut bob = Record::new("bob", "500.00", "497.00");
    let entry = ("buy", "100.00", "1.13000", "1.10000");
    bob.accepted(11, "2026-01-05T10:30:00Z", "3H", entry, ("3.00", "0.00", "500.00"));
    let exit = ["stop_loss", "2026-01-05T11:00:00Z", "1.10000", "1.10000"];
    bob.trade(11, "2026-01-05T10:30:00Z", entry, exit, "0.00", ["0.00", "-3.00", "-3.00"]);
    bob.refused(12, "k7", "2026-01-06T09:00:00Z", &["day_closed"]);
    bob
}

fn report(records: Vec<Record>) -> Report {
    let at = |text: &str| time::parse(text).expect("a time");
    let facts = RunFacts {
        source: "bars.csv".into(),
        symbol: "EURUSD".into(),
        feed_id: FEED.into(),
        users: records.iter().map(Record::user).collect(),
        bars: 30,
        marks: 120,
        signals: 8,
        first: Some(at("2026-01-05T08:00:00Z")),
        last: Some(at("2026-01-06T12:59:59Z")),
        elapsed: Duration::from_millis(500),
    };
    let accounts: Vec<Account> = records.into_iter().map(Record::account).collect();
    Report::of(&facts, &accounts)
}

/// The whole story as JSON.
fn told() -> Value {
    let report = report(vec![ann(), bob()]);
    assert!(report.is_consistent(), "{:?}", report.to_json()["inconsistencies"]);
    report.to_json()
}

#[track_caller]
fn assert_has(value: &Value, expected: &Value) {
    for (key, expected) in expected.as_object().expect("an object") {
        assert_eq!(&value[key], expected, "{key}");
    }
}

#[test]
fn every_figure_is_what_a_pencil_makes_of_it() {
    let told = told();
    let counts = json!({"signals": 8, "decisions": 10, "accepted": 7, "rejected": 3, "orders": 14, "fills": 13,
        "refused": {"day_closed": 3, "open_positions": 1}, "bars": 30, "marks": 120, "elapsed_s": 0.5,
        "marks_per_s": 240.0, "decisions_per_s": 20.0, "first": "2026-01-05T08:00:00Z",
        "last": "2026-01-06T12:59:59Z", "source": "bars.csv", "symbol": "EURUSD", "currency": "USD"});
    assert_has(&told, &counts);
    // Ann's 8.79 and Bob's -3.00; fees of 0.09 + 0.04 + 0.02 + 0.02 + 0.04.
    let results = json!({"pnl": "5.79", "gross_pnl": "6.00", "fees": "0.21", "unrealized": "2.00", "trades": 5,
        "wins": 2, "losses": 3, "win_rate": "40.0", "average_win": "7.945", "average_loss": "-3.35333334"});
    assert_has(&told, &results);
    let exits = json!({"stop_loss": 2, "take_profit": 1, "break_even": 1, "trailing": 1, "max_hold": 0, "gap": 1});
    assert_eq!(told["exits"], exits);
    // By 0.006 on 500, which is more than 0.1 % of the stop; what was lost beyond the trailing stop is less than that.
    assert_eq!(told["cost_of_gaps"], "3.00");
    let (first, second) = (&told["users"][0], &told["users"][1]);
    assert_has(
        first,
        &json!({"username": "ann", "starting_equity": "1000.00", "equity": "1009.79", "pnl": "8.79",
        "gross_pnl": "9.00", "fees": "0.21", "trades": 4, "wins": 2, "losses": 2, "win_rate": "50.0"}),
    );
    assert_has(second, &json!({"username": "bob", "equity": "497.00", "pnl": "-3.00", "trades": 1, "win_rate": "0.0"}));
    assert_has(&told["open_positions"][0], &json!({"user": "ann", "quantity": "200", "unrealized": "2.00"}));
}

#[test]
fn the_worst_day_and_the_deepest_fall_are_dated() {
    let told = told();
    // The second day of Ann: -5.02 - 0.01 - 2.01 - 0.01 + 0.39 - 0.03 - 0.01. Bob made nothing on it.
    assert_eq!(told["worst_day"], json!({"day": "2026-01-06", "user": "ann", "pnl": "-6.70"}));
    assert_eq!(told["worst_day_together"], json!({"day": "2026-01-06", "pnl": "-6.70"}));
    assert_eq!(told["users"][1]["worst_day"], json!({"day": "2026-01-05", "pnl": "-3.00"}));
    // 1,015.51 after the target; less 0.02, 5.02, 0.01, 0.01 and 2.01: down to 1,008.44, which is 0.697 % of the peak.
    let (from, to) = ("2026-01-05T10:15:00Z", "2026-01-06T06:00:00Z");
    let fall = json!({"user": "ann", "amount": "7.07", "percent": "0.7", "from": from, "to": to});
    assert_eq!(told["largest_drawdown"], fall);
    // Together from 1,515.51, and Bob's 3.00 more: 0.6645 %.
    let fall = json!({"user": null, "amount": "10.07", "percent": "0.67", "from": from, "to": to});
    assert_eq!(told["largest_drawdown_together"], fall);
}

#[test]
fn each_limit_names_who_used_most_of_it() {
    let limit = |limit: &str, user: &str, at: &str, used: Value, allowed: Value, percent: &str| json!({"limit": limit, "user": user, "at": at, "used": used, "allowed": allowed, "percent": percent});
    let (ann_4, bob_1) = ("2026-01-06T05:30:00Z", "2026-01-05T10:30:00Z");
    let expected = json!([
        // 7.06 used before and 1.10 at risk.
        limit("loss admitted in a day", "ann", ann_4, json!("8.16"), json!("9.99"), "81.69"),
        // 3.00 of 500.00.
        limit("risk of one trade", "bob", bob_1, json!("0.6"), json!("1.0"), "60.0"),
        // The third acceptance of the day came to nothing.
        limit("3H trades in a day", "ann", ann_4, json!(2), json!(3), "66.67"),
        limit("6H trades in a day", "ann", "2026-01-05T12:00:00Z", json!(1), json!(2), "50.0"),
        limit("9H trades in a day", "ann", "2026-01-06T08:00:00Z", json!(1), json!(2), "50.0"),
        limit("positions at once", "ann", ann_4, json!(2), json!(5), "40.0"),
        limit("exposure", "ann", "2026-01-05T09:00:00Z", json!("1100.00"), json!("250000.00"), "0.44"),
        // What came to nothing was sent all the same, half a minute after another.
        limit("orders in a minute", "ann", "2026-01-06T08:00:30Z", json!(2), json!(60), "3.34"),
    ]);
    assert_eq!(told()["limits"], expected);
}

#[test]
fn two_trades_can_be_checked_by_hand() {
    let told = told();
    let win = json!({"user": "ann", "signal": "k1", "side": "buy", "quantity": "1000", "entry_price": "1.1",
        "exit_price": "1.1156", "entry_value": "1100.00", "exit_value": "1115.60", "gross": "15.60", "fees": "0.09",
        "net": "15.51", "exit": "take_profit", "fills": 3, "risk": "5.00", "equity": "1000.00"});
    assert_has(&told["examples"]["largest_win"], &win);
    let loss = json!({"user": "ann", "signal": "k2", "side": "sell", "quantity": "500", "entry_price": "1.12",
        "exit_price": "1.13", "entry_value": "560.00", "exit_value": "565.00", "gross": "-5.00", "fees": "0.04",
        "net": "-5.04", "exit": "gap", "fills": 2, "last_stop": "1.124"});
    assert_has(&told["examples"]["largest_loss"], &loss);
}

#[test]
fn the_hash_is_that_of_the_lines_which_anybody_can_write() {
    // Made by printf and sha256sum of ten lines, the first, the third-last and the last of them:
    // 2026-01-05T09:00:00Z|k1|ann|accepted||00000000000000000000000000000001-e|1000|1.1|1.095|1.115|5.00|0.00|9.99
    // 2026-01-06T09:00:00Z|k7|ann|rejected|day_closed||||||||
    // 2026-01-06T09:00:00Z|k8|ann|rejected|day_closed,open_positions||||||||
    let expected = "9774cda11cb363b4c1e2c03605274783cac1a8b91a4da7b4ed778be372379caf";
    for records in [vec![ann(), bob()], vec![bob(), ann()]] {
        assert_eq!(report(records).to_json()["decisions_sha256"], expected, "whoever comes first");
    }
}

#[test]
fn what_does_not_add_up_is_told() {
    type Tampering = fn(&mut Answers);
    let table: [(&str, Tampering); 8] = [
        ("position 00000000-0000-0000-0000-000000000001 has realised 15.51, its fills 15.50", |answers| {
            answers.fills[2]["realized"] = json!("9.56");
        }),
        ("made 15.00 gross with fees of 0.09, and says 15.51 net", |answers| {
            answers.fills[2]["price"] = json!("1.115");
        }),
        ("position 00000000-0000-0000-0000-000000000005 holds 199, its fills leave 200", |answers| {
            answers.positions[4]["quantity"] = json!("199");
        }),
        ("is open in the account or in the record, not alike in both", |answers| {
            answers.risk_status["open_positions"] = json!([]);
        }),
        ("has filled 1000, its fills 400", |answers| drop(answers.fills.remove(2))),
        ("has fills and no position", |answers| drop(answers.positions.remove(1))),
        ("equity is 1009.78; 1000.00 at the start and 9.79 realised make 1009.79", |answers| {
            answers.risk_status["equity"] = json!("1009.78");
        }),
        ("signal k7 was decided twice", |answers| {
            let again = answers.decisions[6].clone();
            answers.decisions.push(again);
        }),
    ];
    for (expected, tamper) in table {
        let mut record = ann();
        tamper(&mut record.answers);
        let report = report(vec![record, bob()]);
        assert!(!report.is_consistent(), "{expected}");
        let told = report.to_json()["inconsistencies"].to_string();
        assert!(told.contains(expected), "{expected:?} is not in {told}");
        for shown in [report.in_words(), report.to_html()] {
            assert!(shown.contains(expected), "{expected:?} is not shown");
        }
    }
}

#[test]
fn the_json_has_every_key_also_of_a_run_in_which_nothing_happened() {
    let keys = "signals decisions accepted refused orders fills pnl gross_pnl fees trades win_rate worst_day \
        largest_drawdown exits limits open_positions users bars marks elapsed_s marks_per_s decisions_per_s first last \
        source symbol decisions_sha256 inconsistencies examples";
    for told in [told(), report(vec![]).to_json(), report(vec![Record::new("eve", "7.00", "7.00")]).to_json()] {
        for key in keys.split_whitespace() {
            assert!(told.get(key).is_some(), "{key}");
        }
    }
    let nothing = report(vec![]);
    assert_eq!(nothing.to_json()["win_rate"], Value::Null);
    // Of no line at all, by sha256sum.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(nothing.to_json()["decisions_sha256"], empty);
    assert!(nothing.in_words().contains(empty) && nothing.to_html().contains(empty));
}

#[test]
fn a_terminal_shows_it_on_one_screen() {
    let words = report(vec![ann(), bob()]).in_words();
    for expected in ["+5.79 USD net = +6.00 gross - 0.21 fees", "-6.70 of ann on 2026-01-06", "gap 1", "81.69 %"] {
        assert!(words.contains(expected), "{expected:?} is not in\n{words}");
    }
    let users: Vec<Record> = (0..1000).map(|_| Record::new("a-name-of-some-length", "4999.99", "4999.99")).collect();
    let many = report(users.into_iter().chain([ann(), bob()]).collect()).in_words();
    for words in [words, many] {
        let widest = words.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100) && words.lines().count() <= 50, "{widest:?}\n{words}");
    }
}

#[test]
fn a_page_needs_nothing_else_and_believes_no_name() {
    let mut eve = bob();
    eve.username = "<script>alert('eve')</script>";
    eve.answers.decisions[1]["reasons"] = json!(["<img src=x>"]);
    let page = report(vec![ann(), eve]).to_html();
    for forbidden in ["<script", "<img", "http:", "https:", "url(", "@import", " src=", " href="] {
        assert!(!page.replace("&lt;img src=x&gt;", "").contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;eve&#39;)&lt;/script&gt;"));
    for expected in
        ["prefers-color-scheme:dark", "class=\"chart equity\"", "class=\"chart drawdown\"", "width=device-width"]
    {
        assert!(page.contains(expected), "{expected}");
    }
}
