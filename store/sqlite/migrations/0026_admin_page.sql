-- Accounts that help to run this server on the admin page, as package admin says.
CREATE TABLE admin_role (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    role       TEXT    NOT NULL,
    given_at   INTEGER NOT NULL
) STRICT;

-- Who is signed in on the admin page.
CREATE TABLE admin_session (
    -- the hash of the cookie
    hash       BLOB    PRIMARY KEY,
    -- NULL for the admin password, of which password then has a keyed hash
    account_id INTEGER REFERENCES account (id) ON DELETE CASCADE,
    password   BLOB    NOT NULL,
    -- credential_epoch of the account at the sign-in
    epoch      INTEGER NOT NULL,
    made_at    INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    network    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX admin_session_account ON admin_session (account_id);

-- What the list of accounts is searched in, so that a search reads no whole rows.
CREATE INDEX account_search ON account (id, handle || ' ' || email_key);
