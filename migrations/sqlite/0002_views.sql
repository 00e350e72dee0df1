-- The record for people: the same rows with decimals as decimals and times as ISO times. Nothing here is read by Nexus.
-- A decimal is its column of 1e-8 steps, written out without needless zeros; what is absent stays NULL.

-- Accounts with what the ledger counts for them.
CREATE VIEW v_accounts AS
SELECT
    a.user_id,
    u.username,
    a.version,
    a.currency,
    rtrim(rtrim(printf('%s%d.%08d', iif((a.starting_equity_e8 + a.net_realized_e8) < 0, '-', ''), abs((a.starting_equity_e8 + a.net_realized_e8)) / 100000000, abs((a.starting_equity_e8 + a.net_realized_e8)) % 100000000), '0'), '.') AS equity,
    iif(a.net_realized_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(a.net_realized_e8 < 0, '-', ''), abs(a.net_realized_e8) / 100000000, abs(a.net_realized_e8) % 100000000), '0'), '.')) AS net_realized,
    iif(a.open_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(a.open_e8 < 0, '-', ''), abs(a.open_e8) / 100000000, abs(a.open_e8) % 100000000), '0'), '.')) AS open,
    iif(a.reserved_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(a.reserved_e8 < 0, '-', ''), abs(a.reserved_e8) / 100000000, abs(a.reserved_e8) % 100000000), '0'), '.')) AS reserved,
    iif(l.max_daily_loss_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(l.max_daily_loss_e8 < 0, '-', ''), abs(l.max_daily_loss_e8) / 100000000, abs(l.max_daily_loss_e8) % 100000000), '0'), '.')) AS max_daily_loss,
    iif(l.max_risk_percent_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(l.max_risk_percent_e8 < 0, '-', ''), abs(l.max_risk_percent_e8) / 100000000, abs(l.max_risk_percent_e8) % 100000000), '0'), '.')) AS max_risk_percent,
    a.open_business,
    strftime('%Y-%m-%dT%H:%M:%S', a.now_us / 1000000, 'unixepoch') || printf('.%06dZ', a.now_us % 1000000) AS newest_turn_at
FROM accounts a JOIN users u ON u.id = a.user_id LEFT JOIN limits l ON l.user_id = a.user_id;

-- A user's day: net realised profit and loss, and acceptances by timeframe as a JSON object.
CREATE VIEW v_daily_risk AS
SELECT
    k.user_id,
    k.day,
    rtrim(rtrim(printf('%s%d.%08d', iif(coalesce(d.realized_e8, 0) < 0, '-', ''), abs(coalesce(d.realized_e8, 0)) / 100000000, abs(coalesce(d.realized_e8, 0)) % 100000000), '0'), '.') AS realized,
    (SELECT json_group_object(timeframe, used) FROM daily_counts c WHERE c.user_id = k.user_id AND c.day = k.day) AS timeframes
FROM (SELECT user_id, day FROM daily_risk UNION SELECT user_id, day FROM daily_counts) k
LEFT JOIN daily_risk d ON d.user_id = k.user_id AND d.day = k.day;

-- Signals, and how far their fan-out has come.
CREATE VIEW v_signals AS
SELECT
    s.id,
    f.name AS feed,
    s.key,
    s.symbol,
    s.side,
    s.timeframe,
    s.kind,
    iif(s.entry_price_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(s.entry_price_e8 < 0, '-', ''), abs(s.entry_price_e8) / 100000000, abs(s.entry_price_e8) % 100000000), '0'), '.')) AS entry_price,
    iif(s.stop_loss_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(s.stop_loss_e8 < 0, '-', ''), abs(s.stop_loss_e8) / 100000000, abs(s.stop_loss_e8) % 100000000), '0'), '.')) AS stop_loss,
    iif(s.take_profit_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(s.take_profit_e8 < 0, '-', ''), abs(s.take_profit_e8) / 100000000, abs(s.take_profit_e8) % 100000000), '0'), '.')) AS take_profit,
    strftime('%Y-%m-%dT%H:%M:%S', s.issued_at_us / 1000000, 'unixepoch') || printf('.%06dZ', s.issued_at_us % 1000000) AS issued_at,
    strftime('%Y-%m-%dT%H:%M:%S', s.received_at_us / 1000000, 'unixepoch') || printf('.%06dZ', s.received_at_us % 1000000) AS received_at,
    json_array_length(s.subscribers) AS subscribers,
    s.undecided
FROM signals s JOIN feeds f ON f.id = s.feed_id;

-- Decisions with the signal that they are about.
CREATE VIEW v_decisions AS
SELECT
    d.id,
    strftime('%Y-%m-%dT%H:%M:%S', d.at_us / 1000000, 'unixepoch') || printf('.%06dZ', d.at_us % 1000000) AS at,
    d.user_id,
    d.signal_id,
    s.key AS signal_key,
    s.feed_id,
    d.verdict,
    d.reasons,
    d.client_order_id,
    s.symbol,
    s.side,
    s.timeframe,
    d.kind,
    iif(d.price_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.price_e8 < 0, '-', ''), abs(d.price_e8) / 100000000, abs(d.price_e8) % 100000000), '0'), '.')) AS price,
    iif(d.quantity_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.quantity_e8 < 0, '-', ''), abs(d.quantity_e8) / 100000000, abs(d.quantity_e8) % 100000000), '0'), '.')) AS quantity,
    iif(d.sized_at_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.sized_at_e8 < 0, '-', ''), abs(d.sized_at_e8) / 100000000, abs(d.sized_at_e8) % 100000000), '0'), '.')) AS sized_at,
    iif(d.stop_loss_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.stop_loss_e8 < 0, '-', ''), abs(d.stop_loss_e8) / 100000000, abs(d.stop_loss_e8) % 100000000), '0'), '.')) AS stop_loss,
    iif(d.take_profit_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.take_profit_e8 < 0, '-', ''), abs(d.take_profit_e8) / 100000000, abs(d.take_profit_e8) % 100000000), '0'), '.')) AS take_profit,
    iif(d.risk_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.risk_e8 < 0, '-', ''), abs(d.risk_e8) / 100000000, abs(d.risk_e8) % 100000000), '0'), '.')) AS risk,
    iif(d.used_before_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.used_before_e8 < 0, '-', ''), abs(d.used_before_e8) / 100000000, abs(d.used_before_e8) % 100000000), '0'), '.')) AS used_before,
    iif(d.cap_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.cap_e8 < 0, '-', ''), abs(d.cap_e8) / 100000000, abs(d.cap_e8) % 100000000), '0'), '.')) AS cap,
    iif(d.risk_max_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.risk_max_e8 < 0, '-', ''), abs(d.risk_max_e8) / 100000000, abs(d.risk_max_e8) % 100000000), '0'), '.')) AS risk_max,
    iif(d.equity_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(d.equity_e8 < 0, '-', ''), abs(d.equity_e8) / 100000000, abs(d.equity_e8) % 100000000), '0'), '.')) AS equity,
    strftime('%Y-%m-%dT%H:%M:%S', d.expires_at_us / 1000000, 'unixepoch') || printf('.%06dZ', d.expires_at_us % 1000000) AS expires_at,
    d.venue
FROM decisions d JOIN signals s ON s.id = d.signal_id;

-- Orders that a venue has told of, and planned entries that it has not.
CREATE VIEW v_orders AS
SELECT
    client_order_id,
    decision_id,
    user_id,
    purpose,
    symbol,
    side,
    kind,
    iif(price_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(price_e8 < 0, '-', ''), abs(price_e8) / 100000000, abs(price_e8) % 100000000), '0'), '.')) AS price,
    iif(quantity_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(quantity_e8 < 0, '-', ''), abs(quantity_e8) / 100000000, abs(quantity_e8) % 100000000), '0'), '.')) AS quantity,
    iif(filled_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(filled_e8 < 0, '-', ''), abs(filled_e8) / 100000000, abs(filled_e8) % 100000000), '0'), '.')) AS filled,
    iif(filled_e8 > 0, rtrim(rtrim(printf('%s%d.%08d', iif(CAST(round(value_e8 * 1e8 / filled_e8) AS INTEGER) < 0, '-', ''), abs(CAST(round(value_e8 * 1e8 / filled_e8) AS INTEGER)) / 100000000, abs(CAST(round(value_e8 * 1e8 / filled_e8) AS INTEGER)) % 100000000), '0'), '.'), NULL) AS average_price,
    iif(fees_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(fees_e8 < 0, '-', ''), abs(fees_e8) / 100000000, abs(fees_e8) % 100000000), '0'), '.')) AS fees,
    status,
    unknown,
    cancel_requested,
    venue,
    strftime('%Y-%m-%dT%H:%M:%S', created_at_us / 1000000, 'unixepoch') || printf('.%06dZ', created_at_us % 1000000) AS created_at
FROM (
    SELECT client_order_id, decision_id, user_id, purpose, symbol, side, kind, price_e8, quantity_e8, filled_e8, value_e8, fees_e8,
           status, unknown, cancel_requested, venue, created_at_us
      FROM orders
    UNION ALL
    SELECT client_order_id, id, user_id, 'entry', symbol, side, kind, price_e8, quantity_e8, 0, 0, 0, 'planned', 0, 0, venue, at_us
      FROM decisions d
     WHERE verdict = 'accepted' AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.client_order_id = d.client_order_id));

-- Trades.
CREATE VIEW v_fills AS
SELECT
    venue,
    execution_id,
    client_order_id,
    user_id,
    symbol,
    side,
    iif(quantity_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(quantity_e8 < 0, '-', ''), abs(quantity_e8) / 100000000, abs(quantity_e8) % 100000000), '0'), '.')) AS quantity,
    iif(price_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(price_e8 < 0, '-', ''), abs(price_e8) / 100000000, abs(price_e8) % 100000000), '0'), '.')) AS price,
    iif(fee_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(fee_e8 < 0, '-', ''), abs(fee_e8) / 100000000, abs(fee_e8) % 100000000), '0'), '.')) AS fee,
    iif(realized_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(realized_e8 < 0, '-', ''), abs(realized_e8) / 100000000, abs(realized_e8) % 100000000), '0'), '.')) AS realized,
    strftime('%Y-%m-%dT%H:%M:%S', at_us / 1000000, 'unixepoch') || printf('.%06dZ', at_us % 1000000) AS at
FROM fills;

-- Positions, open and closed.
CREATE VIEW v_positions AS
SELECT
    decision_id,
    user_id,
    symbol,
    side,
    iif(quantity_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(quantity_e8 < 0, '-', ''), abs(quantity_e8) / 100000000, abs(quantity_e8) % 100000000), '0'), '.')) AS quantity,
    iif(entry_price_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(entry_price_e8 < 0, '-', ''), abs(entry_price_e8) / 100000000, abs(entry_price_e8) % 100000000), '0'), '.')) AS entry_price,
    iif(stop_loss_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(stop_loss_e8 < 0, '-', ''), abs(stop_loss_e8) / 100000000, abs(stop_loss_e8) % 100000000), '0'), '.')) AS stop_loss,
    iif(take_profit_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(take_profit_e8 < 0, '-', ''), abs(take_profit_e8) / 100000000, abs(take_profit_e8) % 100000000), '0'), '.')) AS take_profit,
    iif(realized_e8 IS NULL, NULL, rtrim(rtrim(printf('%s%d.%08d', iif(realized_e8 < 0, '-', ''), abs(realized_e8) / 100000000, abs(realized_e8) % 100000000), '0'), '.')) AS realized,
    strftime('%Y-%m-%dT%H:%M:%S', opened_at_us / 1000000, 'unixepoch') || printf('.%06dZ', opened_at_us % 1000000) AS opened_at,
    strftime('%Y-%m-%dT%H:%M:%S', closed_at_us / 1000000, 'unixepoch') || printf('.%06dZ', closed_at_us % 1000000) AS closed_at
FROM positions;

-- Turns, as they happened.
CREATE VIEW v_events AS
SELECT
    user_id,
    version,
    strftime('%Y-%m-%dT%H:%M:%S', now_us / 1000000, 'unixepoch') || printf('.%06dZ', now_us % 1000000) AS now,
    input,
    context,
    events
FROM events;

-- The kill switch.
CREATE VIEW v_trading_state AS
SELECT
    state,
    epoch,
    strftime('%Y-%m-%dT%H:%M:%S', since_us / 1000000, 'unixepoch') || printf('.%06dZ', since_us % 1000000) AS since,
    by,
    reason
FROM trading_state;
