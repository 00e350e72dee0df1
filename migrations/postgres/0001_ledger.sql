-- The ledger on PostgreSQL 15 or newer: everything that Nexus must still know after a power cut.
--
-- How to read it: an `_e8` column counts steps of 0.00000001 (1.50 is 150000000); a `_us` column counts microseconds since
-- 1970-01-01 UTC; `day` is a UTC day. The views of a later migration show the same as decimals and as times. What a table
-- and a column are for is said in their comments (`\d+ decisions`). Once applied, this file is never changed: changes are
-- appended.

CREATE TABLE users (
    id                       uuid   NOT NULL PRIMARY KEY,
    username                 text   NOT NULL UNIQUE,
    role                     text   NOT NULL CHECK (role IN ('admin', 'user')),
    currency                 text   NOT NULL,
    password_hash            text   NOT NULL,
    created_at_us            bigint NOT NULL,
    tokens_valid_from_unix_s bigint NOT NULL
);
COMMENT ON TABLE  users IS 'Who may sign in.';
COMMENT ON COLUMN users.id IS 'Its id, everywhere.';
COMMENT ON COLUMN users.username IS 'Its unique name.';
COMMENT ON COLUMN users.role IS 'What it may do: admin sees and changes everything, user its own.';
COMMENT ON COLUMN users.currency IS 'Of the user''s account.';
COMMENT ON COLUMN users.password_hash IS 'bcrypt, of a keyed hash of the password.';
COMMENT ON COLUMN users.created_at_us IS 'When it was made.';
COMMENT ON COLUMN users.tokens_valid_from_unix_s IS 'Tokens issued before this second are dead.';

CREATE TABLE limits (
    user_id             uuid   NOT NULL PRIMARY KEY REFERENCES users (id),
    version             bigint NOT NULL,
    max_daily_loss_e8   bigint NOT NULL,
    max_risk_percent_e8 bigint NOT NULL,
    duplicate_window_us bigint NOT NULL,
    timeframes          jsonb  NOT NULL,
    limits              text   NOT NULL
);
COMMENT ON TABLE  limits IS 'What every decision for a user is held against. The columns before the last are what the ledger itself admits by.';
COMMENT ON COLUMN limits.user_id IS 'Whose.';
COMMENT ON COLUMN limits.version IS 'Rises with every change.';
COMMENT ON COLUMN limits.max_daily_loss_e8 IS 'Realised + open + reserved of a day stay within this.';
COMMENT ON COLUMN limits.max_risk_percent_e8 IS 'Of equity, for one trade.';
COMMENT ON COLUMN limits.duplicate_window_us IS 'How long the same symbol, side and timeframe is refused after an acceptance.';
COMMENT ON COLUMN limits.timeframes IS 'Acceptances a day for each timeframe; one that is not named may not be traded.';
COMMENT ON COLUMN limits.limits IS 'All limits, as JSON.';

-- Half of each page stays free, so that a new version of a row finds room beside the old one and no index is touched.
CREATE TABLE accounts (
    user_id            uuid    NOT NULL PRIMARY KEY REFERENCES users (id),
    version            bigint  NOT NULL,
    currency           text    NOT NULL,
    starting_equity_e8 bigint  NOT NULL,
    net_realized_e8    bigint  NOT NULL,
    open_e8            bigint  NOT NULL,
    reserved_e8        bigint  NOT NULL,
    open_business      boolean NOT NULL,
    day                date    NOT NULL,
    now_us             bigint  NOT NULL
) WITH (fillfactor = 50);
-- Start-up asks who has something at a venue.
CREATE INDEX accounts_with_open_business ON accounts (user_id) WHERE open_business;
COMMENT ON TABLE  accounts IS 'One user''s risk state. Open and reserved risk are added to, never overwritten, so that nobody''s write is lost. Whoever admits risk holds this row''s lock.';
COMMENT ON COLUMN accounts.user_id IS 'Whose.';
COMMENT ON COLUMN accounts.version IS 'Turns committed; a turn commits only at the version it was stepped from.';
COMMENT ON COLUMN accounts.currency IS 'Of every amount of the account.';
COMMENT ON COLUMN accounts.starting_equity_e8 IS 'What the account began with.';
COMMENT ON COLUMN accounts.net_realized_e8 IS 'Net realised profit and loss of its whole life, fees included.';
COMMENT ON COLUMN accounts.open_e8 IS 'Worst loss of open positions at their current stops.';
COMMENT ON COLUMN accounts.reserved_e8 IS 'Worst loss of accepted entries not yet filled.';
COMMENT ON COLUMN accounts.open_business IS 'Whether a position is open or an order has not ended.';
COMMENT ON COLUMN accounts.day IS 'The day of the newest turn.';
COMMENT ON COLUMN accounts.now_us IS 'The time of the newest turn.';

CREATE TABLE opened_accounts (
    user_id uuid NOT NULL PRIMARY KEY REFERENCES users (id),
    account text NOT NULL
);
COMMENT ON TABLE  opened_accounts IS 'Accounts as they were opened, before their first turn: where a replay of the events begins.';
COMMENT ON COLUMN opened_accounts.user_id IS 'Whose.';
COMMENT ON COLUMN opened_accounts.account IS 'The account, as JSON.';

-- A whole account is some kilobytes, and a turn changes little of it: it is written now and then, and the turns since are in
-- `events`. It stays in its row, and is only compressed, quickly, when it is long.
CREATE TABLE snapshots (
    user_id uuid   NOT NULL PRIMARY KEY REFERENCES users (id),
    version bigint NOT NULL,
    account text   NOT NULL
) WITH (fillfactor = 50, toast_tuple_target = 4080);
DO $$
BEGIN
    ALTER TABLE snapshots ALTER account SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    RAISE NOTICE 'this server was built without lz4: long snapshots are compressed more slowly';
END $$;
COMMENT ON TABLE  snapshots IS 'Whole accounts as they were after one of their last turns: where reading one back begins. Without a row it begins with the account as it was opened.';
COMMENT ON COLUMN snapshots.user_id IS 'Whose.';
COMMENT ON COLUMN snapshots.version IS 'After which turn; those that came later are taken again from events.';
COMMENT ON COLUMN snapshots.account IS 'The account, as JSON.';

CREATE TABLE feeds (
    id                      uuid   NOT NULL PRIMARY KEY,
    name                    text   NOT NULL,
    symbols                 text   NOT NULL,
    api_key_sha256          text,
    webhook_secret          text,
    previous_webhook_secret text,
    rotated_at_us           bigint,
    created_at_us           bigint NOT NULL,
    deleted_at_us           bigint,
    CONSTRAINT feeds_live_have_a_key    CHECK ((deleted_at_us IS NULL) = (api_key_sha256 IS NOT NULL)),
    CONSTRAINT feeds_live_have_a_secret CHECK ((deleted_at_us IS NULL) = (webhook_secret IS NOT NULL))
);
CREATE UNIQUE INDEX feeds_by_name ON feeds (name) WHERE deleted_at_us IS NULL;
CREATE UNIQUE INDEX feeds_by_key ON feeds (api_key_sha256) WHERE deleted_at_us IS NULL;
COMMENT ON TABLE  feeds IS 'Authenticated sources of signals. A deleted feed keeps its row for the record, but neither its name nor its key.';
COMMENT ON COLUMN feeds.id IS 'Its id, everywhere.';
COMMENT ON COLUMN feeds.name IS 'Its name, unique among those that live.';
COMMENT ON COLUMN feeds.symbols IS 'JSON array: whose marks it may push; empty: all.';
COMMENT ON COLUMN feeds.api_key_sha256 IS 'Hexadecimal; the key itself is not kept.';
COMMENT ON COLUMN feeds.webhook_secret IS 'Of its webhook signatures.';
COMMENT ON COLUMN feeds.previous_webhook_secret IS 'Still valid for a while after a rotation.';
COMMENT ON COLUMN feeds.rotated_at_us IS 'When its secrets were last replaced.';
COMMENT ON COLUMN feeds.created_at_us IS 'When it was made.';
COMMENT ON COLUMN feeds.deleted_at_us IS 'When it ended.';

CREATE TABLE subscriptions (
    feed_id  uuid   NOT NULL REFERENCES feeds (id),
    user_id  uuid   NOT NULL REFERENCES users (id),
    since_us bigint NOT NULL,
    PRIMARY KEY (feed_id, user_id)
);
COMMENT ON TABLE  subscriptions IS 'Who follows which feed.';
COMMENT ON COLUMN subscriptions.feed_id IS 'The feed.';
COMMENT ON COLUMN subscriptions.user_id IS 'The follower.';
COMMENT ON COLUMN subscriptions.since_us IS 'Since when.';

CREATE TABLE signals (
    seq            bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    id             uuid    NOT NULL PRIMARY KEY,
    feed_id        uuid    NOT NULL,
    key            text    NOT NULL,
    symbol         text    NOT NULL,
    side           text    NOT NULL,
    timeframe      text    NOT NULL,
    kind           text    NOT NULL,
    entry_price_e8 bigint,
    stop_loss_e8   bigint  NOT NULL,
    take_profit_e8 bigint  NOT NULL,
    issued_at_us   bigint  NOT NULL,
    received_at_us bigint  NOT NULL,
    undecided      bigint  NOT NULL,
    signal         text    NOT NULL,
    subscribers    text    NOT NULL,
    mark           text
);
-- Start-up asks which fan-outs were cut off, without reading every signal that ever was.
CREATE INDEX signals_undecided ON signals (seq) WHERE undecided > 0;
COMMENT ON TABLE  signals IS 'Signals as they were parsed, each with the set of users that it was for.';
COMMENT ON COLUMN signals.seq IS 'The order in which they were recorded.';
COMMENT ON COLUMN signals.id IS 'A function of feed and key, so unique for both.';
COMMENT ON COLUMN signals.feed_id IS 'Whose.';
COMMENT ON COLUMN signals.key IS 'What the feed calls it; makes a repeat safe.';
COMMENT ON COLUMN signals.symbol IS 'What to trade.';
COMMENT ON COLUMN signals.side IS 'Which way.';
COMMENT ON COLUMN signals.timeframe IS 'From which bars.';
COMMENT ON COLUMN signals.kind IS 'market or limit.';
COMMENT ON COLUMN signals.entry_price_e8 IS 'The price that it names, if any.';
COMMENT ON COLUMN signals.stop_loss_e8 IS 'Its stop.';
COMMENT ON COLUMN signals.take_profit_e8 IS 'Its target.';
COMMENT ON COLUMN signals.issued_at_us IS 'When the feed made it.';
COMMENT ON COLUMN signals.received_at_us IS 'When it arrived.';
COMMENT ON COLUMN signals.undecided IS 'Subscribers without a decision.';
COMMENT ON COLUMN signals.signal IS 'The parsed signal, as JSON.';
COMMENT ON COLUMN signals.subscribers IS 'JSON array of user ids, sorted, fixed when it first arrived.';
COMMENT ON COLUMN signals.mark IS 'The market when it arrived, as JSON; finishes a cut-off fan-out.';

-- Every constraint is read anew by every statement that writes here, so there are few: those that hold money back. Without
-- foreign keys, too: whoever writes holds the account's lock and has just written or found the signal, and neither is ever
-- deleted.
CREATE TABLE decisions (
    seq             bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    id              uuid    NOT NULL PRIMARY KEY,
    signal_id       uuid    NOT NULL,
    user_id         uuid    NOT NULL,
    at_us           bigint  NOT NULL,
    verdict         text    NOT NULL,
    reasons         text,
    symbol          text,
    side            text,
    timeframe       text,
    kind            text,
    price_e8        bigint,
    quantity_e8     bigint,
    sized_at_e8     bigint,
    stop_loss_e8    bigint,
    take_profit_e8  bigint,
    risk_e8         bigint,
    used_before_e8  bigint,
    cap_e8          bigint,
    risk_max_e8     bigint,
    count_before    integer,
    count_limit     integer,
    equity_e8       bigint,
    expires_at_us   bigint,
    venue           text,
    CONSTRAINT decisions_one_a_signal_and_user UNIQUE (signal_id, user_id),
    CONSTRAINT decisions_rejected_have_reasons CHECK (verdict = CASE WHEN reasons IS NULL THEN 'accepted' ELSE 'rejected' END),
    -- The hard limits. They stand on the admission alone: what happens afterwards are facts, and facts are not refused. What is
    -- missing is not within a limit.
    CONSTRAINT decisions_risk_something CHECK (reasons IS NOT NULL
        OR (risk_e8 >= 0 AND used_before_e8 >= 0 AND quantity_e8 > 0) IS TRUE),
    CONSTRAINT decisions_within_the_cap CHECK (reasons IS NOT NULL OR (used_before_e8 + risk_e8 <= cap_e8) IS TRUE),
    CONSTRAINT decisions_within_the_percent CHECK (reasons IS NOT NULL OR (risk_e8 <= risk_max_e8) IS TRUE),
    CONSTRAINT decisions_within_the_count CHECK (reasons IS NOT NULL OR (count_before < count_limit) IS TRUE)
);
CREATE INDEX decisions_by_user ON decisions (user_id, seq);
COMMENT ON TABLE  decisions IS 'The verdict on one signal and one user. An acceptance carries its reservation and its order plan: this row is the permission for its entry and for the exits of what the entry opens. The columns from symbol on are those of an acceptance. Rows are never changed.';
COMMENT ON COLUMN decisions.seq IS 'The order in which they were recorded.';
COMMENT ON COLUMN decisions.id IS 'A function of signal and user. The entry''s client order id is a function of it: its 32 digits and -e.';
COMMENT ON COLUMN decisions.signal_id IS 'On which signal.';
COMMENT ON COLUMN decisions.user_id IS 'For whom. One signal and one user make exactly one decision.';
COMMENT ON COLUMN decisions.at_us IS 'When.';
COMMENT ON COLUMN decisions.verdict IS 'accepted or rejected.';
COMMENT ON COLUMN decisions.reasons IS 'JSON array of refusal codes.';
COMMENT ON COLUMN decisions.symbol IS 'What to trade.';
COMMENT ON COLUMN decisions.side IS 'Which way.';
COMMENT ON COLUMN decisions.timeframe IS 'From which bars.';
COMMENT ON COLUMN decisions.kind IS 'market, limit or stop.';
COMMENT ON COLUMN decisions.price_e8 IS 'That a limit or stop order names.';
COMMENT ON COLUMN decisions.quantity_e8 IS 'How much.';
COMMENT ON COLUMN decisions.sized_at_e8 IS 'The entry price that the size was computed from.';
COMMENT ON COLUMN decisions.stop_loss_e8 IS 'The first stop.';
COMMENT ON COLUMN decisions.take_profit_e8 IS 'The target.';
COMMENT ON COLUMN decisions.risk_e8 IS 'The worst-case loss, reserved.';
COMMENT ON COLUMN decisions.used_before_e8 IS 'What the ledger counted as used of the day''s cap. Filled by the ledger, whoever writes.';
COMMENT ON COLUMN decisions.cap_e8 IS 'The day''s cap: the tighter of what was claimed and what the ledger holds.';
COMMENT ON COLUMN decisions.risk_max_e8 IS 'The most that one trade may risk. Filled by the ledger.';
COMMENT ON COLUMN decisions.count_before IS 'Acceptances of the timeframe earlier that day. Filled by the ledger.';
COMMENT ON COLUMN decisions.count_limit IS 'How many acceptances of the timeframe a day may have. Filled by the ledger.';
COMMENT ON COLUMN decisions.equity_e8 IS 'The equity that the risk percent was taken of.';
COMMENT ON COLUMN decisions.expires_at_us IS 'When a working entry is cancelled.';
COMMENT ON COLUMN decisions.venue IS 'Where it trades.';

CREATE TABLE orders (
    seq              bigint  NOT NULL GENERATED ALWAYS AS IDENTITY,
    client_order_id  text    NOT NULL PRIMARY KEY,
    decision_id      uuid    NOT NULL,
    user_id          uuid    NOT NULL,
    purpose          text    NOT NULL,
    symbol           text    NOT NULL,
    side             text    NOT NULL CHECK (side IN ('buy', 'sell')),
    kind             text    NOT NULL CHECK (kind IN ('market', 'limit', 'stop')),
    price_e8         bigint,
    quantity_e8      bigint  NOT NULL,
    filled_e8        bigint  NOT NULL,
    value_e8         bigint  NOT NULL,
    fees_e8          bigint  NOT NULL,
    status           text    NOT NULL,
    unknown          boolean NOT NULL,
    cancel_requested boolean NOT NULL,
    venue            text    NOT NULL,
    created_at_us    bigint  NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX orders_by_user ON orders (user_id, seq);
COMMENT ON TABLE  orders IS 'Orders as far as a venue has told of them: an entry that no venue has answered to yet stands in decisions alone.';
COMMENT ON COLUMN orders.seq IS 'The order in which they were recorded.';
COMMENT ON COLUMN orders.client_order_id IS 'A function of the decision and of which of its orders this is.';
COMMENT ON COLUMN orders.decision_id IS 'The accepted decision that permits it; without one there is no row.';
COMMENT ON COLUMN orders.user_id IS 'Whose.';
COMMENT ON COLUMN orders.purpose IS 'entry, or why the position is closed.';
COMMENT ON COLUMN orders.symbol IS 'What.';
COMMENT ON COLUMN orders.side IS 'Which way.';
COMMENT ON COLUMN orders.kind IS 'market, limit or stop.';
COMMENT ON COLUMN orders.price_e8 IS 'That a limit or stop order names.';
COMMENT ON COLUMN orders.quantity_e8 IS 'How much.';
COMMENT ON COLUMN orders.filled_e8 IS 'How much of it has traded.';
COMMENT ON COLUMN orders.value_e8 IS 'Of the fills together, without fees.';
COMMENT ON COLUMN orders.fees_e8 IS 'Of the fills together.';
COMMENT ON COLUMN orders.status IS 'planned, working, filled, cancelled, rejected or expired.';
COMMENT ON COLUMN orders.unknown IS 'We do not know whether the venue has it.';
COMMENT ON COLUMN orders.cancel_requested IS 'The venue is to be asked to cancel it.';
COMMENT ON COLUMN orders.venue IS 'Where it trades.';
COMMENT ON COLUMN orders.created_at_us IS 'When it was planned.';

CREATE TABLE fills (
    seq             bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    venue           text   NOT NULL,
    execution_id    text   NOT NULL,
    client_order_id text   NOT NULL,
    user_id         uuid   NOT NULL,
    symbol          text   NOT NULL,
    side            text   NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity_e8     bigint NOT NULL,
    price_e8        bigint NOT NULL,
    fee_e8          bigint NOT NULL,
    at_us           bigint NOT NULL,
    realized_e8     bigint NOT NULL,
    PRIMARY KEY (venue, execution_id)
);
CREATE INDEX fills_by_user ON fills (user_id, seq);
COMMENT ON TABLE  fills IS 'Trades at venues. Facts: never refused.';
COMMENT ON COLUMN fills.seq IS 'The order in which they were recorded.';
COMMENT ON COLUMN fills.venue IS 'Where.';
COMMENT ON COLUMN fills.execution_id IS 'The venue''s unique id of the trade.';
COMMENT ON COLUMN fills.client_order_id IS 'The order that traded.';
COMMENT ON COLUMN fills.user_id IS 'Whose.';
COMMENT ON COLUMN fills.symbol IS 'What.';
COMMENT ON COLUMN fills.side IS 'Which way.';
COMMENT ON COLUMN fills.quantity_e8 IS 'How much.';
COMMENT ON COLUMN fills.price_e8 IS 'At what price.';
COMMENT ON COLUMN fills.fee_e8 IS 'For what fee.';
COMMENT ON COLUMN fills.at_us IS 'When, by the venue''s word.';
COMMENT ON COLUMN fills.realized_e8 IS 'What it realised, its fee included.';

CREATE TABLE positions (
    seq            bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    decision_id    uuid   NOT NULL PRIMARY KEY,
    user_id        uuid   NOT NULL,
    symbol         text   NOT NULL,
    side           text   NOT NULL CHECK (side IN ('buy', 'sell')),
    quantity_e8    bigint NOT NULL,
    entry_price_e8 bigint NOT NULL,
    stop_loss_e8   bigint NOT NULL,
    take_profit_e8 bigint NOT NULL,
    realized_e8    bigint NOT NULL,
    opened_at_us   bigint NOT NULL,
    closed_at_us   bigint
) WITH (fillfactor = 70);
CREATE INDEX positions_by_user ON positions (user_id, seq);
CREATE INDEX positions_open ON positions (user_id, seq) WHERE quantity_e8 > 0;
COMMENT ON TABLE  positions IS 'One position for each accepted decision that was filled.';
COMMENT ON COLUMN positions.seq IS 'The order in which they were opened.';
COMMENT ON COLUMN positions.decision_id IS 'The decision behind it.';
COMMENT ON COLUMN positions.user_id IS 'Whose.';
COMMENT ON COLUMN positions.symbol IS 'What.';
COMMENT ON COLUMN positions.side IS 'Which way.';
COMMENT ON COLUMN positions.quantity_e8 IS 'Open; zero once closed.';
COMMENT ON COLUMN positions.entry_price_e8 IS 'Average.';
COMMENT ON COLUMN positions.stop_loss_e8 IS 'In force.';
COMMENT ON COLUMN positions.take_profit_e8 IS 'In force.';
COMMENT ON COLUMN positions.realized_e8 IS 'Fees included.';
COMMENT ON COLUMN positions.opened_at_us IS 'When it was first open.';
COMMENT ON COLUMN positions.closed_at_us IS 'When it had nothing more to do.';

CREATE TABLE daily_risk (
    user_id     uuid   NOT NULL,
    day         date   NOT NULL,
    realized_e8 bigint NOT NULL,
    PRIMARY KEY (user_id, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE  daily_risk IS 'Net realised profit and loss of a user and day. A counter of facts: it carries no cap.';
COMMENT ON COLUMN daily_risk.user_id IS 'Whose.';
COMMENT ON COLUMN daily_risk.day IS 'Which day.';
COMMENT ON COLUMN daily_risk.realized_e8 IS 'Negative for a loss; fees included.';

CREATE TABLE daily_counts (
    user_id   uuid    NOT NULL,
    day       date    NOT NULL,
    timeframe text    NOT NULL,
    used      integer NOT NULL,
    PRIMARY KEY (user_id, day, timeframe)
);
COMMENT ON TABLE  daily_counts IS 'Acceptances of a user, day and timeframe.';
COMMENT ON COLUMN daily_counts.user_id IS 'Whose.';
COMMENT ON COLUMN daily_counts.day IS 'Which day.';
COMMENT ON COLUMN daily_counts.timeframe IS 'From which bars.';
COMMENT ON COLUMN daily_counts.used IS 'How many; given back when an order is proven to have ended without a fill.';

CREATE TABLE duplicate_window (
    user_id          uuid   NOT NULL,
    symbol           text   NOT NULL,
    side             text   NOT NULL,
    timeframe        text   NOT NULL,
    last_accepted_us bigint NOT NULL,
    window_us        bigint NOT NULL,
    PRIMARY KEY (user_id, symbol, side, timeframe)
) WITH (fillfactor = 50);
COMMENT ON TABLE  duplicate_window IS 'When a user last accepted a symbol, side and timeframe: armed by acceptances only, and only when the one before is old enough.';
COMMENT ON COLUMN duplicate_window.user_id IS 'Whose.';
COMMENT ON COLUMN duplicate_window.symbol IS 'What.';
COMMENT ON COLUMN duplicate_window.side IS 'Which way.';
COMMENT ON COLUMN duplicate_window.timeframe IS 'From which bars.';
COMMENT ON COLUMN duplicate_window.last_accepted_us IS 'When.';
COMMENT ON COLUMN duplicate_window.window_us IS 'How old the one before had to be.';

CREATE TABLE events (
    user_id uuid   NOT NULL,
    version bigint NOT NULL,
    now_us  bigint NOT NULL,
    input   text   NOT NULL,
    context text   NOT NULL,
    events  text   NOT NULL,
    UNIQUE (user_id, version, now_us)
) PARTITION BY RANGE (now_us);
COMMENT ON TABLE  events IS 'Every turn of every account: what came in, the world as it was, the facts that followed. Replayed from opened_accounts, they give the same facts again. One partition a month.';
COMMENT ON COLUMN events.user_id IS 'Whose.';
COMMENT ON COLUMN events.version IS 'Of the account after the turn. The account''s own version makes it unique.';
COMMENT ON COLUMN events.now_us IS 'The time of the turn.';
COMMENT ON COLUMN events.input IS 'What it answered to, as JSON.';
COMMENT ON COLUMN events.context IS 'The world when it began, as JSON.';
COMMENT ON COLUMN events.events IS 'The facts that followed, as a JSON array.';

CREATE TABLE trading_state (
    id       smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    state    text     NOT NULL CHECK (state IN ('active', 'reducing', 'halted')),
    epoch    bigint   NOT NULL,
    since_us bigint   NOT NULL,
    by       text     NOT NULL,
    reason   text
);
COMMENT ON TABLE  trading_state IS 'The kill switch, as last set. One row.';
COMMENT ON COLUMN trading_state.id IS 'One row.';
COMMENT ON COLUMN trading_state.state IS 'active, reducing or halted.';
COMMENT ON COLUMN trading_state.epoch IS 'Rises with every change.';
COMMENT ON COLUMN trading_state.since_us IS 'When it was set.';
COMMENT ON COLUMN trading_state.by IS 'By whom.';
COMMENT ON COLUMN trading_state.reason IS 'Why.';

CREATE TABLE revoked_tokens (
    token_id     text   NOT NULL PRIMARY KEY,
    until_unix_s bigint NOT NULL
);
COMMENT ON TABLE  revoked_tokens IS 'Tokens that were ended before their time.';
COMMENT ON COLUMN revoked_tokens.token_id IS 'Which.';
COMMENT ON COLUMN revoked_tokens.until_unix_s IS 'When it would have expired anyway.';

-- The fence is unique so that raising it is a change of a key: a commit that holds the key's lock stops a takeover until it
-- is done, while a renewal passes beside it.
CREATE TABLE lease (
    id          smallint    NOT NULL PRIMARY KEY CHECK (id = 1),
    fence       bigint      NOT NULL UNIQUE,
    owner       text,
    acquired_at timestamptz NOT NULL,
    renewed_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);
INSERT INTO lease VALUES (1, 0, NULL, 'epoch', 'epoch', 'epoch');
COMMENT ON TABLE  lease IS 'Which instance owns the accounts. One row, timed by this database''s clock alone.';
COMMENT ON COLUMN lease.id IS 'One row.';
COMMENT ON COLUMN lease.fence IS 'Rises with every new owner; a commit under an older one is refused.';
COMMENT ON COLUMN lease.owner IS 'Who; null when it was given back.';
COMMENT ON COLUMN lease.acquired_at IS 'Since when.';
COMMENT ON COLUMN lease.renewed_at IS 'When the owner was last heard of.';
COMMENT ON COLUMN lease.expires_at IS 'When somebody else may take it.';

CREATE TABLE pulse (
    id smallint    NOT NULL PRIMARY KEY CHECK (id = 1),
    at timestamptz NOT NULL
) WITH (fillfactor = 10);
INSERT INTO pulse VALUES (1, now());
COMMENT ON TABLE  pulse IS 'Touched by health checks: a ledger that can be read but not written is of no use.';
COMMENT ON COLUMN pulse.id IS 'One row.';
COMMENT ON COLUMN pulse.at IS 'The newest touch.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION refuse_change IS 'Keeps what was recorded as it is.';
CREATE TRIGGER decisions_stay_as_they_are BEFORE UPDATE OR DELETE OR TRUNCATE ON decisions
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('decisions');
CREATE TRIGGER fills_stay_as_they_are BEFORE UPDATE OR DELETE OR TRUNCATE ON fills
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('fills');
-- By row where there are partitions: their statements may go past the parent.
CREATE TRIGGER events_stay_as_they_are BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change('events');
CREATE TRIGGER events_are_not_emptied BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change('events');

CREATE FUNCTION make_events_partition(month text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name   text := 'events_' || month;
    first  date := to_date(month, 'YYYY_MM');
    origin CONSTANT date := '1970-01-01';
    a_day  CONSTANT bigint := 86400000000;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('nexus'), hashtext(name));
    IF to_regclass(name) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Attached and not made in place: that would keep everybody from reading `events` until the commit.
    EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', name);
    -- The parent's triggers for statements do not see what is said to a partition by its own name.
    EXECUTE format('CREATE TRIGGER events_are_not_emptied BEFORE TRUNCATE ON %I
                        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change(''events'')', name);
    EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', name,
        (first - origin) * a_day, ((first + interval '1 month')::date - origin) * a_day);
END $$;
COMMENT ON FUNCTION make_events_partition IS 'Makes the partition of events for a month (2026_11), unless it is there.';
