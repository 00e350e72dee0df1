-- The record for people: the same rows with decimals as decimals and times as times. Nothing here is read by Nexus.

CREATE FUNCTION decimal_of(steps bigint) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN trim_scale(steps * 0.00000001);
COMMENT ON FUNCTION decimal_of IS 'A column of 1e-8 steps as a decimal, without needless zeros.';
CREATE FUNCTION time_of(micros bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN timestamptz '1970-01-01 00:00:00+00' + micros * interval '1 microsecond';
COMMENT ON FUNCTION time_of IS 'A column of microseconds as a time.';

CREATE VIEW v_accounts AS
SELECT a.user_id, u.username, a.version, a.currency, decimal_of(a.starting_equity_e8 + a.net_realized_e8) AS equity,
       decimal_of(a.net_realized_e8) AS net_realized, decimal_of(a.open_e8) AS open, decimal_of(a.reserved_e8) AS reserved,
       decimal_of(l.max_daily_loss_e8) AS max_daily_loss, decimal_of(l.max_risk_percent_e8) AS max_risk_percent,
       a.open_business, time_of(a.now_us) AS newest_turn_at
  FROM accounts a JOIN users u ON u.id = a.user_id LEFT JOIN limits l ON l.user_id = a.user_id;
COMMENT ON VIEW v_accounts IS 'Accounts with what the ledger counts for them.';

CREATE VIEW v_daily_risk AS
SELECT user_id, day, decimal_of(coalesce(d.realized_e8, 0)) AS realized,
       (SELECT jsonb_object_agg(timeframe, used) FROM daily_counts c
         WHERE c.user_id = k.user_id AND c.day = k.day) AS timeframes
  FROM (SELECT user_id, day FROM daily_risk UNION SELECT user_id, day FROM daily_counts) k
  LEFT JOIN daily_risk d USING (user_id, day);
COMMENT ON VIEW v_daily_risk IS 'A user''s day: net realised profit and loss, and acceptances by timeframe.';

CREATE VIEW v_signals AS
SELECT s.id, f.name AS feed, s.key, s.symbol, s.side, s.timeframe, s.kind, decimal_of(s.entry_price_e8) AS entry_price,
       decimal_of(s.stop_loss_e8) AS stop_loss, decimal_of(s.take_profit_e8) AS take_profit,
       time_of(s.issued_at_us) AS issued_at, time_of(s.received_at_us) AS received_at,
       json_array_length(s.subscribers::json) AS subscribers, s.undecided
  FROM signals s JOIN feeds f ON f.id = s.feed_id;
COMMENT ON VIEW v_signals IS 'Signals, and how far their fan-out has come.';

CREATE VIEW v_decisions AS
SELECT d.id, time_of(d.at_us) AS at, d.user_id, d.signal_id, s.key AS signal_key, s.feed_id, d.verdict,
       d.reasons::json AS reasons,
       CASE d.verdict WHEN 'accepted' THEN replace(d.id::text, '-', '') || '-e' END AS client_order_id,
       s.symbol, s.side, s.timeframe, d.kind, decimal_of(d.price_e8) AS price, decimal_of(d.quantity_e8) AS quantity,
       decimal_of(d.sized_at_e8) AS sized_at, decimal_of(d.stop_loss_e8) AS stop_loss,
       decimal_of(d.take_profit_e8) AS take_profit, decimal_of(d.risk_e8) AS risk,
       decimal_of(d.used_before_e8) AS used_before, decimal_of(d.cap_e8) AS cap, decimal_of(d.risk_max_e8) AS risk_max,
       d.count_before, d.count_limit, decimal_of(d.equity_e8) AS equity, time_of(d.expires_at_us) AS expires_at, d.venue
  FROM decisions d JOIN signals s ON s.id = d.signal_id;
COMMENT ON VIEW v_decisions IS 'Decisions with the signal that they are about.';

CREATE VIEW v_orders AS
SELECT client_order_id, decision_id, user_id, purpose, symbol, side, kind, decimal_of(price_e8) AS price,
       decimal_of(quantity_e8) AS quantity, decimal_of(filled_e8) AS filled,
       CASE WHEN filled_e8 > 0 THEN trim_scale(round(value_e8::numeric / filled_e8, 8)) END AS average_price,
       decimal_of(fees_e8) AS fees, status, unknown, cancel_requested, venue, time_of(created_at_us) AS created_at
  FROM (
    SELECT client_order_id, decision_id, user_id, purpose, symbol, side, kind, price_e8, quantity_e8, filled_e8, value_e8,
           fees_e8, status, unknown, cancel_requested, venue, created_at_us
      FROM orders
    UNION ALL
    SELECT p.client_order_id, d.id, d.user_id, 'entry', d.symbol, d.side, d.kind, d.price_e8, d.quantity_e8, 0, 0, 0, 'planned',
           false, false, d.venue, d.at_us
      FROM decisions d CROSS JOIN LATERAL (SELECT replace(d.id::text, '-', '') || '-e' AS client_order_id) p
     WHERE d.verdict = 'accepted' AND NOT EXISTS (SELECT FROM orders o WHERE o.client_order_id = p.client_order_id)) o;
COMMENT ON VIEW v_orders IS 'Orders that a venue has told of, and planned entries that it has not.';

CREATE VIEW v_fills AS
SELECT venue, execution_id, client_order_id, user_id, symbol, side, decimal_of(quantity_e8) AS quantity,
       decimal_of(price_e8) AS price, decimal_of(fee_e8) AS fee, decimal_of(realized_e8) AS realized, time_of(at_us) AS at
  FROM fills;
COMMENT ON VIEW v_fills IS 'Trades.';

CREATE VIEW v_positions AS
SELECT decision_id, user_id, symbol, side, decimal_of(quantity_e8) AS quantity, decimal_of(entry_price_e8) AS entry_price,
       decimal_of(stop_loss_e8) AS stop_loss, decimal_of(take_profit_e8) AS take_profit, decimal_of(realized_e8) AS realized,
       time_of(opened_at_us) AS opened_at, time_of(closed_at_us) AS closed_at
  FROM positions;
COMMENT ON VIEW v_positions IS 'Positions, open and closed.';

CREATE VIEW v_events AS
SELECT user_id, version, time_of(now_us) AS now, input::json AS input, context::json AS context, events::json AS events
  FROM events;
COMMENT ON VIEW v_events IS 'Turns, as they happened.';

CREATE VIEW v_trading_state AS
SELECT state, epoch, time_of(since_us) AS since, by, reason FROM trading_state;
COMMENT ON VIEW v_trading_state IS 'The kill switch.';

CREATE VIEW v_lease AS
SELECT owner, fence, acquired_at, renewed_at, expires_at, expires_at > now() AS held FROM lease;
COMMENT ON VIEW v_lease IS 'Which instance owns the accounts.';
