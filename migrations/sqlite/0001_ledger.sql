-- The ledger: everything that Nexus must still know after a power cut.
--
-- How to read it: an `_e8` column counts steps of 0.00000001 (1.50 is 150000000); a `_us` column counts microseconds
-- since 1970-01-01 UTC; `day` is a UTC day, `2026-11-24`. The views of the next migration show the same as decimals and
-- as ISO times. Ids are UUIDs in their hyphenated form. Once applied, this file is never changed: changes are appended.

-- Who may sign in.
CREATE TABLE users (
    id                       TEXT    NOT NULL PRIMARY KEY,
    username                 TEXT    NOT NULL UNIQUE,
    role                     TEXT    NOT NULL CHECK (role IN ('admin', 'user')),
    currency                 TEXT    NOT NULL,              -- of the user's account
    password_hash            TEXT    NOT NULL,              -- bcrypt
    created_at_us            INTEGER NOT NULL,
    tokens_valid_from_unix_s INTEGER NOT NULL               -- tokens issued before this second are dead
) STRICT;

-- What every decision for a user is held against. The first two are what the ledger itself admits by.
CREATE TABLE limits (
    user_id             TEXT    NOT NULL PRIMARY KEY REFERENCES users (id),
    version             INTEGER NOT NULL,                   -- rises with every change
    max_daily_loss_e8   INTEGER NOT NULL,                   -- realised + open + reserved of a day stay within this
    max_risk_percent_e8 INTEGER NOT NULL,                   -- of equity, for one trade
    limits              TEXT    NOT NULL                    -- all limits, as JSON
) STRICT;

-- One user's risk state. `open_e8` and `reserved_e8` are added to, never overwritten, so that nobody's write is lost.
CREATE TABLE accounts (
    user_id            TEXT    NOT NULL PRIMARY KEY REFERENCES users (id),
    version            INTEGER NOT NULL,                    -- turns committed; a turn commits only at the version it was stepped from
    currency           TEXT    NOT NULL,
    starting_equity_e8 INTEGER NOT NULL,
    net_realized_e8    INTEGER NOT NULL,                    -- of the account's whole life, fees included
    open_e8            INTEGER NOT NULL,                    -- worst loss of open positions at their current stops
    reserved_e8        INTEGER NOT NULL,                    -- worst loss of accepted entries not yet filled
    open_business      INTEGER NOT NULL CHECK (open_business IN (0, 1)), -- a position is open or an order has not ended
    now_us             INTEGER NOT NULL,                    -- the time of the newest turn
    snapshot           TEXT    NOT NULL                     -- the whole account after its newest turn, as JSON
) STRICT;
-- Start-up asks who has something at a venue.
CREATE INDEX accounts_with_open_business ON accounts (user_id) WHERE open_business = 1;

-- Accounts as they were opened, before their first turn: where a replay of `events` begins.
CREATE TABLE opened_accounts (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    account TEXT NOT NULL                                   -- JSON
) STRICT;

-- Authenticated sources of signals. A deleted feed keeps its row for the record, but neither its name nor its key.
CREATE TABLE feeds (
    id                      TEXT    NOT NULL PRIMARY KEY,
    name                    TEXT    NOT NULL,
    symbols                 TEXT    NOT NULL,               -- JSON array: whose marks it may push; empty: all
    api_key_sha256          TEXT,                           -- hexadecimal; the key itself is not kept
    webhook_secret          TEXT,
    previous_webhook_secret TEXT,                           -- still valid for a while after a rotation
    rotated_at_us           INTEGER,
    created_at_us           INTEGER NOT NULL,
    deleted_at_us           INTEGER,
    CHECK ((deleted_at_us IS NULL) = (api_key_sha256 IS NOT NULL)),
    CHECK ((deleted_at_us IS NULL) = (webhook_secret IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX feeds_by_name ON feeds (name) WHERE deleted_at_us IS NULL;
CREATE UNIQUE INDEX feeds_by_key ON feeds (api_key_sha256) WHERE deleted_at_us IS NULL;

-- Who follows which feed.
CREATE TABLE subscriptions (
    feed_id  TEXT    NOT NULL REFERENCES feeds (id),
    user_id  TEXT    NOT NULL REFERENCES users (id),
    since_us INTEGER NOT NULL,
    PRIMARY KEY (feed_id, user_id)
) STRICT, WITHOUT ROWID;

-- Signals as they were parsed, each with the set of users that it was for.
CREATE TABLE signals (
    seq            INTEGER PRIMARY KEY,
    id             TEXT    NOT NULL UNIQUE,                 -- a function of feed and key
    feed_id        TEXT    NOT NULL REFERENCES feeds (id),
    key            TEXT    NOT NULL,                        -- what the feed calls it; makes a repeat safe
    symbol         TEXT    NOT NULL,
    side           TEXT    NOT NULL CHECK (side IN ('buy', 'sell')),
    timeframe      TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    entry_price_e8 INTEGER,
    stop_loss_e8   INTEGER NOT NULL,
    take_profit_e8 INTEGER NOT NULL,
    issued_at_us   INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    undecided      INTEGER NOT NULL CHECK (undecided >= 0), -- subscribers without a decision
    signal         TEXT    NOT NULL,                        -- the parsed signal, as JSON
    subscribers    TEXT    NOT NULL,                        -- JSON array of user ids, sorted, fixed when it first arrived
    mark           TEXT,                                    -- the market when it arrived, as JSON; finishes a cut-off fan-out
    UNIQUE (feed_id, key)
) STRICT;
-- Start-up asks which fan-outs were cut off, without reading every signal that ever was.
CREATE INDEX signals_undecided ON signals (seq) WHERE undecided > 0;

-- The verdict on one signal and one user. An acceptance carries its reservation and its order plan: this row is the
-- permission for its entry and for the exits of what the entry opens. The columns from `client_order_id` on are those of
-- an acceptance. Rows are never changed.
CREATE TABLE decisions (
    seq             INTEGER PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,                -- a function of signal and user
    -- Deferred, so that a refused decision is refused before its signal is written.
    signal_id       TEXT    NOT NULL REFERENCES signals (id) DEFERRABLE INITIALLY DEFERRED,
    user_id         TEXT    NOT NULL REFERENCES accounts (user_id),
    at_us           INTEGER NOT NULL,
    verdict         TEXT    NOT NULL CHECK (verdict IN ('accepted', 'rejected')),
    reasons         TEXT,                                   -- JSON array of refusal codes
    client_order_id TEXT,                                   -- of the entry; a function of the decision's id
    symbol          TEXT,
    side            TEXT    CHECK (side IN ('buy', 'sell')),
    timeframe       TEXT,
    -- Not IN: for more than two values SQLite builds a temporary table, at every insert.
    kind            TEXT    CHECK (kind = 'market' OR kind = 'limit' OR kind = 'stop'),
    price_e8        INTEGER,                                -- that a limit or stop order names
    quantity_e8     INTEGER CHECK (quantity_e8 > 0),
    sized_at_e8     INTEGER,                                -- the entry price that the size was computed from
    stop_loss_e8    INTEGER,
    take_profit_e8  INTEGER,
    risk_e8         INTEGER CHECK (risk_e8 >= 0),           -- the worst-case loss, reserved
    used_before_e8  INTEGER CHECK (used_before_e8 >= 0),    -- what the ledger counted as used of the day's cap
    cap_e8          INTEGER,                                -- the day's cap
    risk_max_e8     INTEGER,                                -- the most that one trade may risk
    equity_e8       INTEGER,
    expires_at_us   INTEGER,                                -- when a working entry is cancelled
    venue           TEXT,
    UNIQUE (signal_id, user_id),                            -- one signal and one user make exactly one decision
    CHECK ((verdict = 'rejected') = (reasons IS NOT NULL)),
    CHECK (verdict = 'rejected' OR (
        client_order_id = replace(id, '-', '') || '-e' AND symbol IS NOT NULL AND side IS NOT NULL AND timeframe IS NOT NULL
        AND kind IS NOT NULL AND (kind = 'market') = (price_e8 IS NULL) AND quantity_e8 IS NOT NULL AND sized_at_e8 IS NOT NULL
        AND stop_loss_e8 IS NOT NULL AND take_profit_e8 IS NOT NULL AND risk_e8 IS NOT NULL AND used_before_e8 IS NOT NULL
        AND cap_e8 IS NOT NULL AND risk_max_e8 IS NOT NULL AND equity_e8 IS NOT NULL AND expires_at_us IS NOT NULL
        AND venue IS NOT NULL AND client_order_id IS NOT NULL)),
    -- The hard limits. They stand on the admission alone: what happens afterwards are facts, and facts are not refused.
    CHECK (verdict = 'rejected' OR used_before_e8 + risk_e8 <= cap_e8),
    CHECK (verdict = 'rejected' OR risk_e8 <= risk_max_e8)
) STRICT;
CREATE INDEX decisions_by_user ON decisions (user_id);

-- Whoever writes an acceptance, this process or another, cannot claim less use or a higher cap than the ledger holds.
CREATE TRIGGER decisions_are_admitted_by_the_ledger BEFORE INSERT ON decisions WHEN NEW.verdict = 'accepted'
BEGIN
    SELECT RAISE(ABORT, 'the decision claims less use of the cap than the ledger counts')
      FROM accounts a
      LEFT JOIN daily_risk d ON d.user_id = a.user_id AND d.day = date(NEW.at_us / 1000000, 'unixepoch')
     WHERE a.user_id = NEW.user_id
       AND NEW.used_before_e8 < a.open_e8 + a.reserved_e8 + max(0, -coalesce(d.realized_e8, 0));
    SELECT RAISE(ABORT, 'the decision claims a higher cap than the user has')
     WHERE NOT EXISTS (SELECT 1 FROM limits l WHERE l.user_id = NEW.user_id AND NEW.cap_e8 <= l.max_daily_loss_e8);
END;
CREATE TRIGGER decisions_stay_as_they_are BEFORE UPDATE ON decisions
BEGIN
    SELECT RAISE(ABORT, 'a decision is never changed');
END;

-- Orders as far as a venue has told of them: an entry that no venue has answered to yet stands in `decisions` alone.
CREATE TABLE orders (
    seq              INTEGER PRIMARY KEY,
    client_order_id  TEXT    NOT NULL UNIQUE,
    decision_id      TEXT    NOT NULL REFERENCES decisions (id), -- the decision that permits it
    user_id          TEXT    NOT NULL,
    purpose          TEXT    NOT NULL,                      -- entry, or why the position is closed
    symbol           TEXT    NOT NULL,
    side             TEXT    NOT NULL CHECK (side IN ('buy', 'sell')),
    kind             TEXT    NOT NULL CHECK (kind = 'market' OR kind = 'limit' OR kind = 'stop'),
    price_e8         INTEGER,
    quantity_e8      INTEGER NOT NULL,
    filled_e8        INTEGER NOT NULL,
    value_e8         INTEGER NOT NULL,                      -- of the fills together, without fees
    fees_e8          INTEGER NOT NULL,
    status           TEXT    NOT NULL,
    unknown          INTEGER NOT NULL CHECK (unknown IN (0, 1)), -- we do not know whether the venue has it
    cancel_requested INTEGER NOT NULL CHECK (cancel_requested IN (0, 1)),
    venue            TEXT    NOT NULL,
    created_at_us    INTEGER NOT NULL
) STRICT;
CREATE INDEX orders_by_user ON orders (user_id);
CREATE TRIGGER orders_need_an_accepted_decision BEFORE INSERT ON orders
WHEN NOT EXISTS (SELECT 1 FROM decisions WHERE id = NEW.decision_id AND verdict = 'accepted')
BEGIN
    SELECT RAISE(ABORT, 'no accepted decision permits this order');
END;

-- Trades at venues.
CREATE TABLE fills (
    seq             INTEGER PRIMARY KEY,
    venue           TEXT    NOT NULL,
    execution_id    TEXT    NOT NULL,                       -- the venue's unique id of the trade
    client_order_id TEXT    NOT NULL,
    user_id         TEXT    NOT NULL,
    symbol          TEXT    NOT NULL,
    side            TEXT    NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity_e8     INTEGER NOT NULL,
    price_e8        INTEGER NOT NULL,
    fee_e8          INTEGER NOT NULL,
    at_us           INTEGER NOT NULL,                       -- by the venue's word
    realized_e8     INTEGER NOT NULL,                       -- what it realised, its fee included
    UNIQUE (venue, execution_id)
) STRICT;
CREATE INDEX fills_by_user ON fills (user_id);

-- One position for each accepted decision that was filled.
CREATE TABLE positions (
    seq            INTEGER PRIMARY KEY,
    decision_id    TEXT    NOT NULL UNIQUE REFERENCES decisions (id),
    user_id        TEXT    NOT NULL,
    symbol         TEXT    NOT NULL,
    side           TEXT    NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity_e8    INTEGER NOT NULL,                        -- open; zero once closed
    entry_price_e8 INTEGER NOT NULL,                        -- average
    stop_loss_e8   INTEGER NOT NULL,                        -- in force
    take_profit_e8 INTEGER NOT NULL,
    realized_e8    INTEGER NOT NULL,                        -- fees included
    opened_at_us   INTEGER NOT NULL,
    closed_at_us   INTEGER                                  -- when it had nothing more to do
) STRICT;
CREATE INDEX positions_by_user ON positions (user_id);
CREATE INDEX positions_open ON positions (user_id) WHERE quantity_e8 > 0;

-- Net realised profit and loss of a user and day. A counter of facts: it carries no cap.
CREATE TABLE daily_risk (
    user_id     TEXT    NOT NULL,
    day         TEXT    NOT NULL,
    realized_e8 INTEGER NOT NULL,                           -- negative for a loss
    PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;

-- Acceptances of a user, day and timeframe.
CREATE TABLE daily_counts (
    user_id   TEXT    NOT NULL,
    day       TEXT    NOT NULL,
    timeframe TEXT    NOT NULL,
    used      INTEGER NOT NULL,
    PRIMARY KEY (user_id, day, timeframe)
) STRICT, WITHOUT ROWID;

-- When a user last accepted a symbol, side and timeframe: armed by acceptances only.
CREATE TABLE duplicate_window (
    user_id          TEXT    NOT NULL,
    symbol           TEXT    NOT NULL,
    side             TEXT    NOT NULL,
    timeframe        TEXT    NOT NULL,
    last_accepted_us INTEGER NOT NULL,
    PRIMARY KEY (user_id, symbol, side, timeframe)
) STRICT, WITHOUT ROWID;

-- Every turn of every account: what came in, the world as it was, the facts that followed. Replayed from
-- `opened_accounts`, they give the same facts again.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    user_id TEXT    NOT NULL,
    version INTEGER NOT NULL,                               -- of the account after the turn
    now_us  INTEGER NOT NULL,
    input   TEXT    NOT NULL,                               -- JSON
    context TEXT    NOT NULL,                               -- JSON
    events  TEXT    NOT NULL,                               -- JSON array
    UNIQUE (user_id, version)
) STRICT;
CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'an event is never changed');
END;

-- The kill switch, as last set. One row.
CREATE TABLE trading_state (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    state    TEXT    NOT NULL CHECK (state IN ('active', 'reducing', 'halted')),
    epoch    INTEGER NOT NULL,                              -- rises with every change
    since_us INTEGER NOT NULL,
    by       TEXT    NOT NULL,
    reason   TEXT
) STRICT;

-- Tokens that were ended before their time.
CREATE TABLE revoked_tokens (
    token_id     TEXT    NOT NULL PRIMARY KEY,
    until_unix_s INTEGER NOT NULL                           -- when it would have expired anyway
) STRICT, WITHOUT ROWID;
