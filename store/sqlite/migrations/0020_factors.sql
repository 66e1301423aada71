-- What the owner chose about signing in: account.Switches.
ALTER TABLE account ADD COLUMN passkey_second INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN dangerous_factor INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN apps_by_password INTEGER NOT NULL DEFAULT 1;

-- A code that a page has used up stays for a moment, so that a lost answer can be asked
-- for again: the flow of that page, empty for none.
ALTER TABLE email_code ADD COLUMN used_flow TEXT NOT NULL DEFAULT '';
ALTER TABLE email_code ADD COLUMN used_at INTEGER;

CREATE TABLE totp (
    account_id    INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    -- the secret, sealed with the data directory's key file
    secret_sealed BLOB    NOT NULL,
    confirmed_at  INTEGER NOT NULL,
    -- the last accepted step of 30 seconds since 1970: only later ones are accepted
    last_step     INTEGER NOT NULL,
    last_flow     TEXT    NOT NULL,
    used_at       INTEGER
) STRICT;

CREATE TABLE passkey (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id    INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    credential_id BLOB    NOT NULL UNIQUE,
    -- the whole credential as JSON
    credential    BLOB    NOT NULL,
    name          TEXT    NOT NULL,
    made_at       INTEGER NOT NULL,
    used_at       INTEGER,
    used_network  TEXT    NOT NULL DEFAULT '',
    -- when the owner was last told that there may be a copy of it
    warned_at     INTEGER
) STRICT;

CREATE INDEX passkey_account ON passkey (account_id);

-- By what passkeys know an account. It is on devices for good, so it never changes.
CREATE TABLE webauthn_user (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    handle     BLOB    NOT NULL UNIQUE
) STRICT;

-- The key of the hashes of an account's recovery codes, sealed as the secret of totp is.
CREATE TABLE recovery_key (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    key_sealed BLOB    NOT NULL
) STRICT;

CREATE TABLE recovery_code (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    hash       BLOB    NOT NULL,
    used_at    INTEGER,
    used_flow  TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (account_id, hash)
) STRICT, WITHOUT ROWID;
