-- The kill switch for less than everything. One that is active again keeps its row, so that an older epoch is known as such.
CREATE TABLE trading_scopes (
    kind     text   NOT NULL CHECK (kind IN ('venue', 'symbol', 'feed', 'user')),
    name     text   NOT NULL CHECK (name <> ''),
    state    text   NOT NULL CHECK (state IN ('active', 'reducing', 'halted')),
    epoch    bigint NOT NULL,
    since_us bigint NOT NULL,
    by       text   NOT NULL,
    reason   text,
    PRIMARY KEY (kind, name)
);
COMMENT ON TABLE  trading_scopes IS 'The kill switch for less than everything: what was ever stopped, as last set.';
COMMENT ON COLUMN trading_scopes.kind IS 'venue, symbol, feed or user.';
COMMENT ON COLUMN trading_scopes.name IS 'The name of a venue or symbol, the id of a feed or user.';
COMMENT ON COLUMN trading_scopes.state IS 'active, reducing or halted.';
COMMENT ON COLUMN trading_scopes.epoch IS 'Rises with every change of any trading state.';
COMMENT ON COLUMN trading_scopes.since_us IS 'When it was set.';
COMMENT ON COLUMN trading_scopes.by IS 'By whom.';
COMMENT ON COLUMN trading_scopes.reason IS 'Why.';

CREATE FUNCTION set_trading_scope(p_kind text, p_name text, p_state text, p_epoch bigint, p_since bigint, p_by text, p_reason text)
RETURNS SETOF trading_scopes LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trading_scopes AS held (kind, name, state, epoch, since_us, by, reason)
    VALUES (p_kind, p_name, p_state, p_epoch, p_since, p_by, p_reason)
    ON CONFLICT (kind, name) DO UPDATE
       SET state = excluded.state, epoch = excluded.epoch, since_us = excluded.since_us, by = excluded.by,
           reason = excluded.reason
     WHERE excluded.epoch > held.epoch
        OR (excluded.epoch = held.epoch
            AND array_position('{active,reducing,halted}', excluded.state) >= array_position('{active,reducing,halted}', held.state));
    RETURN QUERY SELECT * FROM trading_scopes AS held WHERE held.kind = p_kind AND held.name = p_name;
END $$;
COMMENT ON FUNCTION set_trading_scope IS 'Sets the kill switch of a scope unless a higher epoch, or a tighter state of the same one, is set; answers what is set.';

CREATE VIEW v_trading_scopes AS
SELECT kind, name, state, epoch, time_of(since_us) AS since, by, reason FROM trading_scopes;
COMMENT ON VIEW v_trading_scopes IS 'The kill switch for less than everything.';
