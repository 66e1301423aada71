-- The browsers that people have signed in on, as package device says.
CREATE TABLE device (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- (hash, salt) of each secret that works, the newest last
    secrets       BLOB    NOT NULL,
    earned        INTEGER NOT NULL DEFAULT 0,
    generation    INTEGER NOT NULL,
    rotated_at    INTEGER NOT NULL,
    made_at       INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL,
    network       TEXT    NOT NULL,
    user_agent    TEXT    NOT NULL
) STRICT;

CREATE TABLE browser_session (
    device_id       INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    account_id      INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    generation      INTEGER NOT NULL,
    signed_in_at    INTEGER NOT NULL,
    used_at         INTEGER NOT NULL,
    factors         TEXT    NOT NULL,
    remember        INTEGER NOT NULL,
    stepped_up_at   INTEGER,
    step_up_level   INTEGER NOT NULL,
    step_up_factors TEXT    NOT NULL,
    trusted_until   INTEGER,
    PRIMARY KEY (device_id, account_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX browser_session_account ON browser_session (account_id);
