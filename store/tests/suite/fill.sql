-- Tables of some size, copied from the rows that one real trade has left: 5,000 users, of which 200 have traded 50 times.
SET nexus.admission = 'commit';
CREATE FUNCTION id_of(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN lpad(to_hex(n), 32, '0')::uuid;
INSERT INTO users SELECT id_of(1000 + n), 'filled' || n, role, currency, password_hash, created_at_us, 0
  FROM users, generate_series(1, 5000) n WHERE username = 'user1';
INSERT INTO feeds (id, name, symbols, api_key_sha256, webhook_secret, created_at_us)
SELECT id_of(100000 + n), 'filled' || n, '[]', 'key' || n, 'secret', 0 FROM generate_series(1, 2000) n;
INSERT INTO subscriptions SELECT id_of(100000 + f), id_of(1000 + u), 0 FROM generate_series(1, 50) f, generate_series(1, 200) u;
INSERT INTO limits SELECT id_of(1000 + n), version, max_daily_loss_e8, max_risk_percent_e8, duplicate_window_us, timeframes, limits
  FROM limits, generate_series(1, 5000) n WHERE user_id = id_of(1);
INSERT INTO accounts SELECT id_of(1000 + n), 50, currency, starting_equity_e8, 0, 0, 0, false, day, now_us
  FROM accounts, generate_series(1, 5000) n WHERE user_id = id_of(1);
INSERT INTO opened_accounts SELECT id_of(1000 + n), account
  FROM opened_accounts, generate_series(1, 5000) n WHERE user_id = id_of(1);
INSERT INTO snapshots SELECT id_of(1000 + n), 50, regexp_replace(account, '"version":\d+,"limits"', '"version":50,"limits"')
  FROM snapshots, generate_series(1, 5000) n WHERE user_id = id_of(1);
INSERT INTO daily_risk SELECT id_of(1000 + n), d::date, -1
  FROM generate_series(1, 200) n, generate_series('2026-10-01'::date, '2026-11-24', '1 day') d;
INSERT INTO daily_counts SELECT id_of(1000 + n), d::date, '3H', 1
  FROM generate_series(1, 200) n, generate_series('2026-10-01'::date, '2026-11-24', '1 day') d;
INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, stop_loss_e8, take_profit_e8, issued_at_us, received_at_us,
                     undecided, signal, subscribers, mark)
SELECT id_of(200000 + n), feed_id, 'filled' || n, symbol, side, timeframe, kind, stop_loss_e8, take_profit_e8, issued_at_us,
       received_at_us, 0, signal, '[]', mark
  FROM signals, generate_series(0, 10000) n WHERE key = 'a';
-- Each on a signal of its own, and the last of each user on a signal that all have in common.
INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, symbol, side, timeframe, kind, quantity_e8, sized_at_e8,
                       stop_loss_e8, take_profit_e8, risk_e8, used_before_e8, cap_e8, risk_max_e8, count_before, count_limit,
                       equity_e8, expires_at_us, venue)
SELECT id_of(300000 + u * 50 + k), id_of(CASE k WHEN 50 THEN 200000 ELSE 200000 + (u - 1) * 50 + k END), id_of(1000 + u), at_us,
       verdict, symbol, side, timeframe, kind, quantity_e8, sized_at_e8, stop_loss_e8, take_profit_e8, risk_e8, used_before_e8,
       cap_e8, risk_max_e8, count_before, count_limit, equity_e8, expires_at_us, venue
  FROM decisions, generate_series(1, 200) u, generate_series(1, 50) k WHERE user_id = id_of(1);
INSERT INTO orders (client_order_id, decision_id, user_id, purpose, symbol, side, kind, quantity_e8, filled_e8, value_e8, fees_e8,
                    status, unknown, cancel_requested, venue, created_at_us)
SELECT replace(d.id::text, '-', '') || '-e', d.id, d.user_id, purpose, o.symbol, o.side, o.kind, o.quantity_e8, filled_e8, value_e8,
       fees_e8, status, unknown, cancel_requested, o.venue, created_at_us
  FROM decisions d, orders o WHERE d.user_id > id_of(1000);
INSERT INTO fills (venue, execution_id, client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8, at_us, realized_e8)
SELECT o.venue, o.client_order_id, o.client_order_id, o.user_id, f.symbol, f.side, f.quantity_e8, f.price_e8, fee_e8, at_us, realized_e8
  FROM orders o, fills f WHERE o.user_id > id_of(1000);
INSERT INTO positions (decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8, take_profit_e8, realized_e8,
                       opened_at_us, closed_at_us)
SELECT d.id, d.user_id, p.symbol, p.side, CASE d.signal_id WHEN id_of(200000) THEN p.quantity_e8 ELSE 0 END, entry_price_e8,
       p.stop_loss_e8, p.take_profit_e8, realized_e8, opened_at_us, closed_at_us
  FROM decisions d, positions p WHERE d.user_id > id_of(1000);
INSERT INTO events SELECT id_of(1000 + u), k, now_us, input, context, events
  FROM events, generate_series(1, 200) u, generate_series(1, 50) k WHERE user_id = id_of(1) AND version = 1;
VACUUM ANALYZE;
