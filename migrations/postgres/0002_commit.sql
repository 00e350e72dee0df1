-- How turns get in: one call a batch, one transaction a call, and nobody else's way around it.

CREATE FUNCTION hold_fence(p_fence bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- The lock stops a takeover until this transaction has ended; after a takeover there is no such row any more.
    IF p_fence IS NULL THEN
        PERFORM FROM lease WHERE expires_at <= clock_timestamp() FOR KEY SHARE;
    ELSE
        PERFORM FROM lease WHERE fence = p_fence FOR KEY SHARE;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease was lost' USING ERRCODE = 'NX001';
    END IF;
END $$;
COMMENT ON FUNCTION hold_fence IS 'Refuses whoever does not own the accounts any more; without a fence, whoever comes while somebody owns them.';

CREATE FUNCTION record_signal(
    p_fence bigint, p_id uuid, p_feed uuid, p_key text, p_symbol text, p_side text, p_timeframe text, p_kind text,
    p_entry_price bigint, p_stop_loss bigint, p_take_profit bigint, p_issued_at bigint, p_received_at bigint,
    p_subscribers_count bigint, p_signal text, p_subscribers text, p_mark text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_fence(p_fence);
    INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, entry_price_e8, stop_loss_e8, take_profit_e8,
                         issued_at_us, received_at_us, undecided, signal, subscribers, mark)
    VALUES (p_id, p_feed, p_key, p_symbol, p_side, p_timeframe, p_kind, p_entry_price, p_stop_loss, p_take_profit,
            p_issued_at, p_received_at, p_subscribers_count, p_signal, p_subscribers, p_mark)
    ON CONFLICT (id) DO NOTHING;
END $$;
COMMENT ON FUNCTION record_signal IS 'Records a signal unless it is recorded already.';

CREATE TYPE commit_verdicts AS (codes smallint[], used bigint[], caps bigint[], words text[]);
COMMENT ON TYPE commit_verdicts IS 'What the ledger says to each step of a batch: 0 committed, 1 vetoed (used, cap), 2 already decided, 3 stale (used is the version). Words say why when it was not foreseen.';

-- The arrays that begin with the same letter run in parallel: `t` steps, `e` their turns, `d` their decisions, `a` their
-- acceptances, `s` signals, `n` snapshots, `c` counts of timeframes, `f` fills, `o` orders, `p` positions. A step is one turn of a user, or
-- several that follow each other, of which only the first may decide; it is taken or refused as a whole. `x_step` is the place
-- of the step behind a row. Steps stand in waves, each sorted by user and with every user at most once: so the steps of a wave
-- do not see each other, each statement takes a whole wave, and an account's turns keep their order. `t_wave_end` holds the
-- last place of each wave.
--
-- Locks are taken in one order by everybody: the fence, accounts by user, then what is kept by user and day. Nobody but the owner
-- writes here, as a rule, so accounts are looked at first and locked by the update that proves them unchanged; when one was not,
-- the wave is taken again under locks. A wave with a step that the tables refuse is rolled back to where it began and taken step
-- by step: nobody's fails another's.
CREATE FUNCTION commit_turns(
    p_fence bigint, p_months text[], t_wave_end integer[],
    t_user uuid[], t_base bigint[], t_turns integer[], t_now bigint[], t_day integer[], t_realized bigint[],
    t_open bigint[], t_reserved bigint[], t_business boolean[],
    e_step integer[], e_version bigint[], e_now bigint[], e_input text[], e_context text[], e_events text[],
    d_id uuid[], d_signal integer[], d_at bigint[], d_reasons text[], d_awaited boolean[],
    a_symbol text[], a_side text[], a_timeframe text[], a_kind text[], a_price bigint[], a_quantity bigint[],
    a_sized_at bigint[], a_stop_loss bigint[], a_take_profit bigint[], a_risk bigint[], a_cap bigint[], a_equity bigint[],
    a_expires_at bigint[], a_venue text[], a_window bigint[],
    s_id uuid[], s_known boolean[], s_feed uuid[], s_key text[], s_symbol text[], s_side text[], s_timeframe text[],
    s_kind text[], s_entry_price bigint[], s_stop_loss bigint[], s_take_profit bigint[], s_issued_at bigint[],
    s_received_at bigint[], s_total bigint[], s_signal text[], s_subscribers text[], s_mark text[],
    n_step integer[], n_account text[], c_step integer[], c_timeframe text[], c_change integer[],
    f_step integer[], f_venue text[], f_execution text[], f_order text[], f_symbol text[], f_side text[],
    f_quantity bigint[], f_price bigint[], f_fee bigint[], f_at bigint[], f_realized bigint[],
    o_step integer[], o_id text[], o_decision uuid[], o_purpose text[], o_symbol text[], o_side text[], o_kind text[],
    o_price bigint[], o_quantity bigint[], o_filled bigint[], o_value bigint[], o_fees bigint[], o_status text[],
    o_unknown boolean[], o_cancel boolean[], o_venue text[], o_created_at bigint[],
    p_step integer[], p_decision uuid[], p_symbol text[], p_side text[], p_quantity bigint[], p_entry_price bigint[],
    p_stop_loss bigint[], p_take_profit bigint[], p_realized bigint[], p_opened_at bigint[], p_closed_at bigint[],
    p_limits jsonb
) RETURNS commit_verdicts LANGUAGE plpgsql
-- Tells the trigger on `decisions` that admission is done here, under the same locks.
SET nexus.admission = 'commit'
AS $$
DECLARE
    origin      CONSTANT date := '1970-01-01';
    steps       CONSTANT integer := cardinality(t_user);
    verdicts    commit_verdicts := ('{}', '{}', '{}', '{}');
    month       text;
    wave        integer := 1;
    lo          integer := 1;
    hi          integer;
    -- Steps up to this place are taken one by one.
    careful     integer := 0;
    -- Accounts are locked before they are looked at: only when looking first has failed.
    contended   boolean := false;
    codes       smallint[];
    held        bigint[];
    used        bigint[];
    caps        bigint[];
    risk_max    bigint[];
    counted     integer[];
    count_limit integer[];
    admitted    bigint;
    accepted    bigint;
    written     bigint;
    known       bigint;
    deciding    boolean;
    realizing   boolean;
    decided     integer[];
    recorded    uuid[];
    state       text;
    refused_by  text;
    words       text;
BEGIN
    -- As hold_fence does, without the call.
    PERFORM FROM lease
      WHERE CASE WHEN p_fence IS NULL THEN expires_at <= clock_timestamp() ELSE fence = p_fence END FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease was lost' USING ERRCODE = 'NX001';
    END IF;
    FOREACH month IN ARRAY p_months LOOP
        IF to_regclass('events_' || month) IS NULL THEN
            PERFORM make_events_partition(month);
        END IF;
    END LOOP;

    WHILE lo <= steps LOOP
        WHILE t_wave_end[wave] < lo LOOP
            wave := wave + 1;
        END LOOP;
        hi := CASE WHEN lo <= careful THEN lo ELSE t_wave_end[wave] END;
        codes := NULL;
        used := NULL;
        caps := NULL;
        BEGIN
            IF contended THEN
                -- In a statement of its own: the next one then sees what others have committed meanwhile.
                PERFORM FROM accounts WHERE user_id = ANY (t_user[lo:hi]) ORDER BY user_id FOR NO KEY UPDATE;
            END IF;

            SELECT array_agg(v.code), array_agg(v.held), array_agg(v.used), array_agg(v.cap), array_agg(v.risk_max),
                   array_agg(v.counted), array_agg(v.count_limit),
                   count(*) FILTER (WHERE v.code = 0 AND v.risk IS NOT NULL),
                   bool_or(v.code = 0 AND v.decision IS NOT NULL), bool_or(v.code = 0 AND v.realized <> 0),
                   count(*) FILTER (WHERE v.code = 0)
              INTO codes, held, used, caps, risk_max, counted, count_limit, accepted, deciding, realizing, admitted
              FROM (
                SELECT (CASE
                            WHEN h.version IS DISTINCT FROM h.base THEN 3
                            WHEN h.used + h.risk > h.cap OR h.risk > h.risk_max OR h.counted >= h.count_limit THEN
                                CASE WHEN EXISTS (SELECT FROM decisions d
                                                   WHERE d.signal_id = s_id[h.signal] AND d.user_id = h.user_id)
                                     THEN 2 ELSE 1 END
                            ELSE 0
                        END)::smallint AS code,
                       CASE WHEN h.version IS DISTINCT FROM h.base THEN coalesce(h.version, 0) ELSE h.used END AS used,
                       h.held, h.cap, h.risk_max, h.counted, h.count_limit, h.risk, h.decision, h.realized
                  FROM (
                    SELECT t.place, t.user_id, t.base, t.decision, t.signal, t.risk, t.realized, a.version,
                           a.open_e8 + a.reserved_e8 AS held,
                           CASE WHEN t.risk IS NOT NULL THEN
                               a.open_e8 + a.reserved_e8 + greatest(0, -coalesce((
                                   SELECT r.realized_e8 FROM daily_risk r
                                    WHERE r.user_id = t.user_id AND r.day = origin + t.day), 0))
                           END AS used,
                           CASE WHEN t.risk IS NOT NULL THEN least(t.cap, coalesce(l.max_daily_loss_e8, 0)) END AS cap,
                           CASE WHEN t.risk IS NOT NULL THEN
                               least(div(greatest(t.equity, 0)::numeric * coalesce(l.max_risk_percent_e8, 0), 10000000000),
                                     9223372036854775807)::bigint
                           END AS risk_max,
                           CASE WHEN t.risk IS NOT NULL THEN coalesce((
                               SELECT c.used FROM daily_counts c
                                WHERE c.user_id = t.user_id AND c.day = origin + t.day AND c.timeframe = t.timeframe), 0)
                           END AS counted,
                           CASE WHEN t.risk IS NOT NULL THEN coalesce((l.timeframes ->> t.timeframe)::integer, 0)
                           END AS count_limit
                      FROM (SELECT unnest(t_user[lo:hi]) AS user_id, unnest(t_base[lo:hi]) AS base,
                                   unnest(t_day[lo:hi]) AS day, unnest(t_realized[lo:hi]) AS realized,
                                   unnest(d_id[lo:hi]) AS decision, unnest(d_signal[lo:hi]) AS signal,
                                   unnest(a_risk[lo:hi]) AS risk, unnest(a_cap[lo:hi]) AS cap,
                                   unnest(a_equity[lo:hi]) AS equity, unnest(a_timeframe[lo:hi]) AS timeframe,
                                   generate_series(1, hi - lo + 1) AS place) t
                      LEFT JOIN accounts a ON a.user_id = t.user_id
                      LEFT JOIN limits l ON l.user_id = t.user_id
                    OFFSET 0) h
                 ORDER BY h.place) v;

            -- This locks the accounts, and proves that they still are what the verdicts were found on.
            UPDATE accounts a
               SET version = a.version + t.turns, open_e8 = a.open_e8 + t.open, reserved_e8 = a.reserved_e8 + t.reserved,
                   net_realized_e8 = a.net_realized_e8 + t.realized, open_business = t.business, day = origin + t.day,
                   now_us = t.now
              FROM (SELECT unnest(codes) AS code, unnest(t_user[lo:hi]) AS user_id, unnest(t_base[lo:hi]) AS base,
                           unnest(t_turns[lo:hi]) AS turns, unnest(t_open[lo:hi]) AS open, unnest(t_reserved[lo:hi]) AS reserved,
                           unnest(t_realized[lo:hi]) AS realized, unnest(t_business[lo:hi]) AS business,
                           unnest(t_day[lo:hi]) AS day, unnest(t_now[lo:hi]) AS now, unnest(held) AS held) t
             WHERE t.code = 0 AND a.user_id = t.user_id AND a.version = t.base
               AND a.open_e8 + a.reserved_e8 = t.held;
            GET DIAGNOSTICS written = ROW_COUNT;
            IF written < admitted THEN
                RAISE EXCEPTION 'somebody else has changed an account' USING ERRCODE = 'NX002';
            END IF;

            -- In a statement of its own: under the locks it sees what others have committed while the update waited for them.
            IF accepted > 0 AND EXISTS (
                SELECT FROM (SELECT unnest(codes) AS code, unnest(t_user[lo:hi]) AS user_id, unnest(t_day[lo:hi]) AS day,
                                    unnest(a_risk[lo:hi]) AS risk, unnest(a_timeframe[lo:hi]) AS timeframe,
                                    unnest(held) AS held, unnest(used) AS used, unnest(counted) AS counted) t
                 WHERE t.code = 0 AND t.risk IS NOT NULL
                   AND (t.used <> t.held + greatest(0, -coalesce((
                            SELECT r.realized_e8 FROM daily_risk r
                             WHERE r.user_id = t.user_id AND r.day = origin + t.day), 0))
                        OR t.counted <> coalesce((
                            SELECT c.used FROM daily_counts c
                             WHERE c.user_id = t.user_id AND c.day = origin + t.day AND c.timeframe = t.timeframe), 0))) THEN
                RAISE EXCEPTION 'somebody else has changed an account' USING ERRCODE = 'NX002';
            END IF;

            IF deciding THEN
                -- How many subscribers of each signal are decided here; null for those that none is about.
                decided := array_fill(NULL::integer, ARRAY[cardinality(s_id)]);
                written := 0;
                FOR place IN lo..hi LOOP
                    IF d_signal[place] > 0 AND codes[place - lo + 1] = 0 THEN
                        IF decided[d_signal[place]] IS NULL THEN
                            decided[d_signal[place]] := 0;
                            written := written + 1;
                        END IF;
                        IF d_awaited[place] THEN
                            decided[d_signal[place]] := decided[d_signal[place]] + 1;
                        END IF;
                    END IF;
                END LOOP;
                WITH fresh AS (
                    INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, entry_price_e8, stop_loss_e8,
                                         take_profit_e8, issued_at_us, received_at_us, undecided, signal, subscribers, mark)
                    SELECT s.id, s.feed, s.key, s.symbol, s.side, s.timeframe, s.kind, s.entry_price, s.stop_loss,
                           s.take_profit, s.issued_at, s.received_at, greatest(0, s.total - s.decided), s.signal,
                           s.subscribers, s.mark
                      FROM (SELECT unnest(s_id) AS id, unnest(s_known) AS known, unnest(s_feed) AS feed,
                                   unnest(s_key) AS key, unnest(s_symbol) AS symbol, unnest(s_side) AS side,
                                   unnest(s_timeframe) AS timeframe, unnest(s_kind) AS kind,
                                   unnest(s_entry_price) AS entry_price, unnest(s_stop_loss) AS stop_loss,
                                   unnest(s_take_profit) AS take_profit, unnest(s_issued_at) AS issued_at,
                                   unnest(s_received_at) AS received_at, unnest(s_total) AS total,
                                   unnest(s_signal) AS signal, unnest(s_subscribers) AS subscribers,
                                   unnest(s_mark) AS mark, unnest(decided) AS decided) s
                     WHERE s.decided IS NOT NULL AND NOT s.known
                    ON CONFLICT (id) DO NOTHING
                    RETURNING id)
                SELECT array_agg(id) INTO recorded FROM fresh;
                IF coalesce(cardinality(recorded), 0) < written THEN
                    UPDATE signals
                       SET undecided = greatest(0, signals.undecided - s.decided)
                      FROM (SELECT unnest(s_id) AS id, unnest(decided) AS decided) s
                     WHERE signals.id = s.id AND s.decided IS NOT NULL AND s.id <> ALL (coalesce(recorded, '{}'));
                    GET DIAGNOSTICS known = ROW_COUNT;
                    IF known + coalesce(cardinality(recorded), 0) < written THEN
                        RAISE EXCEPTION 'a decision on a signal that is not recorded' USING ERRCODE = 'foreign_key_violation';
                    END IF;
                END IF;

                INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, reasons, symbol, side, timeframe, kind,
                                       price_e8, quantity_e8, sized_at_e8, stop_loss_e8, take_profit_e8, risk_e8,
                                       used_before_e8, cap_e8, risk_max_e8, count_before, count_limit, equity_e8,
                                       expires_at_us, venue)
                SELECT t.id, s_id[t.signal], t.user_id, t.at, CASE WHEN t.risk IS NULL THEN 'rejected' ELSE 'accepted' END,
                       t.reasons, t.symbol, t.side, t.timeframe, t.kind, t.price, t.quantity, t.sized_at, t.stop_loss,
                       t.take_profit, t.risk, t.used, t.cap, t.risk_max, t.counted, t.count_limit, t.equity, t.expires_at,
                       t.venue
                  FROM (SELECT unnest(codes) AS code, unnest(t_user[lo:hi]) AS user_id, unnest(d_id[lo:hi]) AS id,
                               unnest(d_signal[lo:hi]) AS signal, unnest(d_at[lo:hi]) AS at,
                               unnest(d_reasons[lo:hi]) AS reasons, unnest(a_symbol[lo:hi]) AS symbol,
                               unnest(a_side[lo:hi]) AS side, unnest(a_timeframe[lo:hi]) AS timeframe,
                               unnest(a_kind[lo:hi]) AS kind, unnest(a_price[lo:hi]) AS price,
                               unnest(a_quantity[lo:hi]) AS quantity, unnest(a_sized_at[lo:hi]) AS sized_at,
                               unnest(a_stop_loss[lo:hi]) AS stop_loss, unnest(a_take_profit[lo:hi]) AS take_profit,
                               unnest(a_risk[lo:hi]) AS risk, unnest(used) AS used, unnest(caps) AS cap,
                               unnest(risk_max) AS risk_max, unnest(counted) AS counted,
                               unnest(count_limit) AS count_limit, unnest(a_equity[lo:hi]) AS equity,
                               unnest(a_expires_at[lo:hi]) AS expires_at, unnest(a_venue[lo:hi]) AS venue) t
                 WHERE t.code = 0 AND t.id IS NOT NULL;
            END IF;

            IF accepted > 0 THEN
                INSERT INTO duplicate_window AS w (user_id, symbol, side, timeframe, last_accepted_us, window_us)
                SELECT t.user_id, t.symbol, t.side, t.timeframe, t.at, t.time
                  FROM (SELECT unnest(codes) AS code, unnest(t_user[lo:hi]) AS user_id, unnest(a_risk[lo:hi]) AS risk,
                               unnest(a_symbol[lo:hi]) AS symbol, unnest(a_side[lo:hi]) AS side,
                               unnest(a_timeframe[lo:hi]) AS timeframe, unnest(d_at[lo:hi]) AS at,
                               unnest(a_window[lo:hi]) AS time) t
                 WHERE t.code = 0 AND t.risk IS NOT NULL
                ON CONFLICT (user_id, symbol, side, timeframe) DO UPDATE
                   SET last_accepted_us = excluded.last_accepted_us, window_us = excluded.window_us
                 WHERE w.last_accepted_us <= excluded.last_accepted_us - excluded.window_us;
                GET DIAGNOSTICS written = ROW_COUNT;
                IF written < accepted THEN
                    RAISE EXCEPTION 'the same was accepted within the duplicate window' USING ERRCODE = 'check_violation';
                END IF;
            END IF;

            IF realizing THEN
                INSERT INTO daily_risk AS r (user_id, day, realized_e8)
                SELECT t.user_id, origin + t.day, t.realized
                  FROM (SELECT unnest(codes) AS code, unnest(t_user[lo:hi]) AS user_id, unnest(t_day[lo:hi]) AS day,
                               unnest(t_realized[lo:hi]) AS realized) t
                 WHERE t.code = 0 AND t.realized <> 0
                ON CONFLICT (user_id, day) DO UPDATE SET realized_e8 = r.realized_e8 + excluded.realized_e8;
            END IF;
            IF cardinality(c_step) > 0 THEN
                INSERT INTO daily_counts AS k (user_id, day, timeframe, used)
                SELECT t_user[c.step], origin + t_day[c.step], c.timeframe, c.change
                  FROM (SELECT unnest(c_step) AS step, unnest(c_timeframe) AS timeframe, unnest(c_change) AS change) c
                 WHERE c.step BETWEEN lo AND hi AND codes[c.step - lo + 1] = 0
                ON CONFLICT (user_id, day, timeframe) DO UPDATE SET used = k.used + excluded.used;
            END IF;

            INSERT INTO events (user_id, version, now_us, input, context, events)
            SELECT t_user[e.step], e.version, e.now, e.input, e.context, e.events
              FROM (SELECT unnest(e_step) AS step, unnest(e_version) AS version, unnest(e_now) AS now,
                           unnest(e_input) AS input, unnest(e_context) AS context, unnest(e_events) AS events) e
             WHERE e.step BETWEEN lo AND hi AND codes[e.step - lo + 1] = 0;

            IF cardinality(n_step) > 0 THEN
                INSERT INTO snapshots AS n (user_id, version, account)
                SELECT t_user[n.step], t_base[n.step] + t_turns[n.step], n.account
                  FROM (SELECT unnest(n_step) AS step, unnest(n_account) AS account) n
                 WHERE n.step BETWEEN lo AND hi AND codes[n.step - lo + 1] = 0
                ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, account = excluded.account;
            END IF;
            IF cardinality(f_step) > 0 THEN
                INSERT INTO fills (venue, execution_id, client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8,
                                   at_us, realized_e8)
                SELECT f.venue, f.execution, f.id, t_user[f.step], f.symbol, f.side, f.quantity, f.price, f.fee, f.at,
                       f.realized
                  FROM (SELECT unnest(f_step) AS step, unnest(f_venue) AS venue, unnest(f_execution) AS execution,
                               unnest(f_order) AS id, unnest(f_symbol) AS symbol, unnest(f_side) AS side,
                               unnest(f_quantity) AS quantity, unnest(f_price) AS price, unnest(f_fee) AS fee,
                               unnest(f_at) AS at, unnest(f_realized) AS realized) f
                 WHERE f.step BETWEEN lo AND hi AND codes[f.step - lo + 1] = 0
                ON CONFLICT (venue, execution_id) DO NOTHING;
            END IF;
            IF cardinality(o_step) > 0 THEN
                INSERT INTO orders (client_order_id, decision_id, user_id, purpose, symbol, side, kind, price_e8,
                                    quantity_e8, filled_e8, value_e8, fees_e8, status, unknown, cancel_requested, venue,
                                    created_at_us)
                SELECT o.id, o.decision, t_user[o.step], o.purpose, o.symbol, o.side, o.kind, o.price, o.quantity, o.filled,
                       o.value, o.fees, o.status, o.unknown, o.cancel, o.venue, o.created_at
                  FROM (SELECT unnest(o_step) AS step, unnest(o_id) AS id, unnest(o_decision) AS decision,
                               unnest(o_purpose) AS purpose, unnest(o_symbol) AS symbol, unnest(o_side) AS side,
                               unnest(o_kind) AS kind, unnest(o_price) AS price, unnest(o_quantity) AS quantity,
                               unnest(o_filled) AS filled, unnest(o_value) AS value, unnest(o_fees) AS fees,
                               unnest(o_status) AS status, unnest(o_unknown) AS unknown, unnest(o_cancel) AS cancel,
                               unnest(o_venue) AS venue, unnest(o_created_at) AS created_at) o
                 WHERE o.step BETWEEN lo AND hi AND codes[o.step - lo + 1] = 0
                ON CONFLICT (client_order_id) DO UPDATE
                   SET quantity_e8 = excluded.quantity_e8, filled_e8 = excluded.filled_e8, value_e8 = excluded.value_e8,
                       fees_e8 = excluded.fees_e8, status = excluded.status, unknown = excluded.unknown,
                       cancel_requested = excluded.cancel_requested;
            END IF;
            IF cardinality(p_step) > 0 THEN
                INSERT INTO positions (decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8,
                                       take_profit_e8, realized_e8, opened_at_us, closed_at_us)
                SELECT p.decision, t_user[p.step], p.symbol, p.side, p.quantity, p.entry_price, p.stop_loss, p.take_profit,
                       p.realized, p.opened_at, p.closed_at
                  FROM (SELECT unnest(p_step) AS step, unnest(p_decision) AS decision, unnest(p_symbol) AS symbol,
                               unnest(p_side) AS side, unnest(p_quantity) AS quantity,
                               unnest(p_entry_price) AS entry_price, unnest(p_stop_loss) AS stop_loss,
                               unnest(p_take_profit) AS take_profit, unnest(p_realized) AS realized,
                               unnest(p_opened_at) AS opened_at, unnest(p_closed_at) AS closed_at) p
                 WHERE p.step BETWEEN lo AND hi AND codes[p.step - lo + 1] = 0
                ON CONFLICT (decision_id) DO UPDATE
                   SET quantity_e8 = excluded.quantity_e8, entry_price_e8 = excluded.entry_price_e8,
                       stop_loss_e8 = excluded.stop_loss_e8, take_profit_e8 = excluded.take_profit_e8,
                       realized_e8 = excluded.realized_e8, closed_at_us = excluded.closed_at_us;
            END IF;
            -- Set by people, now and then: not worth seven arrays.
            IF p_limits IS NOT NULL THEN
                UPDATE limits
                   SET version = l.version, max_daily_loss_e8 = l.max_daily_loss, max_risk_percent_e8 = l.max_risk_percent,
                       duplicate_window_us = l.duplicate_window, timeframes = l.timeframes, limits = l.limits
                  FROM jsonb_to_recordset(p_limits) AS l (step integer, version bigint, max_daily_loss bigint,
                           max_risk_percent bigint, duplicate_window bigint, timeframes jsonb, limits text)
                 WHERE l.step BETWEEN lo AND hi AND codes[l.step - lo + 1] = 0 AND limits.user_id = t_user[l.step];
            END IF;
            verdicts.words := verdicts.words || array_fill(NULL::text, ARRAY[hi - lo + 1]);
        EXCEPTION WHEN SQLSTATE 'NX002' THEN
            IF contended THEN
                RAISE;
            END IF;
            contended := true;
            CONTINUE;
        WHEN integrity_constraint_violation OR data_exception OR cardinality_violation THEN
            IF hi > lo THEN
                careful := hi;
                CONTINUE;
            END IF;
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, refused_by = TABLE_NAME, words = MESSAGE_TEXT;
            codes := ARRAY[CASE WHEN state = '23505' AND refused_by = 'decisions' THEN 2 ELSE 1 END];
            used := ARRAY[coalesce(used[1], 0)];
            caps := ARRAY[coalesce(caps[1], 0)];
            verdicts.words := verdicts.words || words;
        END;
        verdicts.codes := verdicts.codes || codes;
        verdicts.used := verdicts.used || used;
        verdicts.caps := verdicts.caps || caps;
        lo := hi + 1;
        contended := false;
    END LOOP;
    RETURN verdicts;
END $$;
COMMENT ON FUNCTION commit_turns IS 'Writes a batch of turns. Each commits only at the version it was stepped from, and each acceptance only within what the ledger itself counts.';

CREATE FUNCTION keep_snapshots(p_fence bigint, n_user uuid[], n_version bigint[], n_account text[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM hold_fence(p_fence);
    INSERT INTO snapshots AS n (user_id, version, account)
    SELECT s.user_id, s.version, s.account
      FROM (SELECT unnest(n_user) AS user_id, unnest(n_version) AS version, unnest(n_account) AS account) s
     ORDER BY s.user_id
    ON CONFLICT (user_id) DO UPDATE SET version = excluded.version, account = excluded.account
     WHERE n.version < excluded.version;
END $$;
COMMENT ON FUNCTION keep_snapshots IS 'Keeps whole accounts whose turns are committed already, so that fewer turns have to be taken again.';

-- Whoever writes an acceptance past `commit_turns`: the ledger fills in what it counts and what it allows, under the same
-- lock, and takes the reservation itself. What does not fit, the CHECKs refuse, and with it everything here is undone.
CREATE FUNCTION admit_decision() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    held   accounts;
    limit_ limits;
    today  CONSTANT date := (timestamp '1970-01-01' + NEW.at_us * interval '1 microsecond')::date;
BEGIN
    SELECT * INTO held FROM accounts WHERE user_id = NEW.user_id FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM signals WHERE id = NEW.signal_id) THEN
        RAISE EXCEPTION 'a decision needs its account and its signal' USING ERRCODE = 'foreign_key_violation';
    END IF;
    IF (NEW.kind = 'market') IS DISTINCT FROM (NEW.price_e8 IS NULL) OR (NEW.side IN ('buy', 'sell')) IS NOT TRUE
       OR num_nulls(NEW.symbol, NEW.timeframe, NEW.kind, NEW.sized_at_e8, NEW.stop_loss_e8, NEW.take_profit_e8,
                    NEW.expires_at_us, NEW.venue) > 0 THEN
        RAISE EXCEPTION 'an acceptance is complete' USING ERRCODE = 'check_violation';
    END IF;
    SELECT * INTO limit_ FROM limits WHERE user_id = NEW.user_id;
    NEW.used_before_e8 := held.open_e8 + held.reserved_e8 + greatest(0, -coalesce(
        (SELECT realized_e8 FROM daily_risk WHERE user_id = NEW.user_id AND day = greatest(today, held.day)), 0));
    NEW.cap_e8 := least(NEW.cap_e8, coalesce(limit_.max_daily_loss_e8, 0));
    NEW.equity_e8 := held.starting_equity_e8 + held.net_realized_e8;
    NEW.risk_max_e8 := div(greatest(NEW.equity_e8, 0)::numeric * coalesce(limit_.max_risk_percent_e8, 0), 10000000000);
    NEW.count_before := coalesce((SELECT used FROM daily_counts
        WHERE user_id = NEW.user_id AND day = greatest(today, held.day) AND timeframe = NEW.timeframe), 0);
    NEW.count_limit := coalesce((limit_.timeframes ->> NEW.timeframe)::integer, 0);

    UPDATE accounts SET reserved_e8 = reserved_e8 + coalesce(NEW.risk_e8, 0) WHERE user_id = NEW.user_id;
    INSERT INTO daily_counts AS k VALUES (NEW.user_id, greatest(today, held.day), NEW.timeframe, 1)
    ON CONFLICT (user_id, day, timeframe) DO UPDATE SET used = k.used + 1;
    INSERT INTO duplicate_window AS w
    VALUES (NEW.user_id, NEW.symbol, NEW.side, NEW.timeframe, NEW.at_us, limit_.duplicate_window_us)
    ON CONFLICT (user_id, symbol, side, timeframe) DO UPDATE
       SET last_accepted_us = excluded.last_accepted_us, window_us = excluded.window_us
     WHERE w.last_accepted_us <= excluded.last_accepted_us - excluded.window_us;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the same was accepted within the duplicate window' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION admit_decision IS 'Admits an acceptance that is written by anybody but the engine.';
CREATE TRIGGER decisions_are_admitted_by_the_ledger BEFORE INSERT ON decisions
    FOR EACH ROW WHEN (NEW.verdict = 'accepted' AND current_setting('nexus.admission', true) IS DISTINCT FROM 'commit')
    EXECUTE FUNCTION admit_decision();

CREATE FUNCTION require_accepted_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM fresh f
                WHERE NOT EXISTS (SELECT FROM decisions d WHERE d.id = f.decision_id AND d.verdict = 'accepted')) THEN
        RAISE EXCEPTION 'no accepted decision permits this row of %', TG_TABLE_NAME USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION require_accepted_decision IS 'An order or a position stands on an accepted decision. Decisions are never deleted, so it is asked once.';
CREATE TRIGGER orders_need_an_accepted_decision AFTER INSERT ON orders
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION require_accepted_decision();
CREATE TRIGGER positions_need_an_accepted_decision AFTER INSERT ON positions
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION require_accepted_decision();

-- The write and the answer are one statement, so that what is answered was never something else in between.
CREATE FUNCTION set_trading_state(p_state text, p_epoch bigint, p_since bigint, p_by text, p_reason text)
RETURNS SETOF trading_state LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trading_state AS held (id, state, epoch, since_us, by, reason)
    VALUES (1, p_state, p_epoch, p_since, p_by, p_reason)
    ON CONFLICT (id) DO UPDATE
       SET state = excluded.state, epoch = excluded.epoch, since_us = excluded.since_us, by = excluded.by,
           reason = excluded.reason
     WHERE excluded.epoch > held.epoch
        OR (excluded.epoch = held.epoch
            AND array_position('{active,reducing,halted}', excluded.state) >= array_position('{active,reducing,halted}', held.state));
    RETURN QUERY SELECT * FROM trading_state;
END $$;
COMMENT ON FUNCTION set_trading_state IS 'Sets the kill switch unless a higher epoch, or a tighter state of the same one, is set; answers what is set.';
