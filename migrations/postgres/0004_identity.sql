-- Which ledger this is. Copies of what it holds, outside of it, are kept under this name: whoever finds some under another
-- name knows that they are of another database.
CREATE TABLE ledger_identity (
    id     smallint NOT NULL PRIMARY KEY CHECK (id = 1),
    ledger uuid     NOT NULL
);
INSERT INTO ledger_identity VALUES (1, gen_random_uuid());
COMMENT ON TABLE  ledger_identity IS 'A name drawn once. One row.';
COMMENT ON COLUMN ledger_identity.id IS 'One row.';
COMMENT ON COLUMN ledger_identity.ledger IS 'The name: part of every key of the hot state.';
