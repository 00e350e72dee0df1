-- Which ledger this is: a name drawn once. Copies of what it holds, outside of it, are kept under this name: whoever finds
-- some under another name knows that they are of another database. One row.
CREATE TABLE ledger_identity (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    ledger TEXT    NOT NULL                                -- 32 hexadecimal digits: part of every key of the hot state
) STRICT;
INSERT INTO ledger_identity VALUES (1, lower(hex(randomblob(16))));
