-- Times are Unix milliseconds; a time that never was is NULL.

CREATE TABLE account (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    did                TEXT    NOT NULL UNIQUE,
    handle             TEXT    NOT NULL UNIQUE,
    email              TEXT    NOT NULL,
    -- the address as it is compared: lower case
    email_key          TEXT    NOT NULL UNIQUE,
    password_hash      TEXT    NOT NULL,
    created_at         INTEGER NOT NULL,
    email_confirmed_at INTEGER,
    deactivated_at     INTEGER,
    delete_after       INTEGER,
    takendown_at       INTEGER,
    takedown_ref       TEXT    NOT NULL DEFAULT '',
    suspended_at       INTEGER,
    invited_with       TEXT    NOT NULL DEFAULT '',
    signing_key        TEXT    NOT NULL,
    -- the private key, sealed with the data directory's key file
    signing_key_sealed BLOB    NOT NULL,
    tokens_valid_after INTEGER,
    -- the genesis operation of an account whose DID is being registered; NULL
    -- once the account exists
    pending_operation  BLOB,
    -- counts what ended sessions, so that a sign-in that began before is refused
    credential_epoch   INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX account_pending ON account (id) WHERE pending_operation IS NOT NULL;

-- What the network says of an account's identity, as last seen.
CREATE TABLE identity (
    account_id     INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    document       BLOB    NOT NULL,
    handle_invalid INTEGER NOT NULL DEFAULT 0,
    checked_at     INTEGER
) STRICT;

CREATE INDEX identity_checked ON identity (checked_at);

CREATE TABLE app_password (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name       TEXT    NOT NULL,
    hash       TEXT    NOT NULL,
    privileged INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

-- One row a session, updated in place at each refresh. Ending a session is
-- deleting its row. The columns that a refresh changes are in no index.
CREATE TABLE session (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    nonce           TEXT    NOT NULL,
    account_id      INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    app_password_id INTEGER REFERENCES app_password (id) ON DELETE CASCADE,
    scope           TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    head            INTEGER NOT NULL,
    rotated_at      INTEGER NOT NULL,
    -- (time, generation) pairs as varints; empty for none
    marks           BLOB    NOT NULL,
    floor           INTEGER NOT NULL,
    expires         INTEGER NOT NULL,
    network         TEXT    NOT NULL,
    user_agent      TEXT    NOT NULL,
    flagged_at      INTEGER
) STRICT;

CREATE INDEX session_account ON session (account_id);
CREATE INDEX session_app_password ON session (app_password_id) WHERE app_password_id IS NOT NULL;

CREATE TABLE trail (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id       INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    at               INTEGER NOT NULL,
    kind             TEXT    NOT NULL,
    actor            TEXT    NOT NULL,
    session_id       INTEGER NOT NULL,
    reason           TEXT    NOT NULL,
    network          TEXT    NOT NULL,
    user_agent       TEXT    NOT NULL,
    other_network    TEXT    NOT NULL,
    other_user_agent TEXT    NOT NULL
) STRICT;

CREATE INDEX trail_account ON trail (account_id, id);

CREATE TABLE invite_code (
    code        TEXT    PRIMARY KEY,
    available   INTEGER NOT NULL,
    disabled    INTEGER NOT NULL DEFAULT 0,
    for_account TEXT    NOT NULL,
    created_by  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX invite_code_for ON invite_code (for_account);

CREATE TABLE invite_use (
    code    TEXT    NOT NULL REFERENCES invite_code (code) ON DELETE CASCADE,
    used_by TEXT    NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (code, used_by)
) STRICT, WITHOUT ROWID;
