-- The kill switch for less than everything: what was ever stopped, as last set. One that is active again keeps its row, so
-- that an older epoch is known as such.
CREATE TABLE trading_scopes (
    kind     TEXT    NOT NULL CHECK (kind IN ('venue', 'symbol', 'feed', 'user')),
    name     TEXT    NOT NULL CHECK (name <> ''),           -- a venue's or symbol's name, a feed's or user's id
    state    TEXT    NOT NULL CHECK (state IN ('active', 'reducing', 'halted')),
    epoch    INTEGER NOT NULL,                              -- rises with every change of any trading state
    since_us INTEGER NOT NULL,
    by       TEXT    NOT NULL,
    reason   TEXT,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- The kill switch for less than everything.
CREATE VIEW v_trading_scopes AS
SELECT
    kind,
    name,
    state,
    epoch,
    strftime('%Y-%m-%dT%H:%M:%S', since_us / 1000000, 'unixepoch') || printf('.%06dZ', since_us % 1000000) AS since,
    by,
    reason
FROM trading_scopes;
