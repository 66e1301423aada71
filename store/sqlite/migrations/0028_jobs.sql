-- Work in the background for accounts that move in, as package moving says.
CREATE TABLE job (
    id         INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    -- the URL of the server that it fetches from
    source     TEXT    NOT NULL,
    -- open, or how it ended
    state      TEXT    NOT NULL,
    -- JSON, as package moving writes it
    progress   TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    made_at    INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;

-- An account has one that is open.
CREATE UNIQUE INDEX job_open ON job (account_id) WHERE state = 'open';
CREATE INDEX job_account ON job (account_id, id);
CREATE INDEX job_ended ON job (changed_at) WHERE state <> 'open';
