-- One authorization request, from its push to its code. Times of the decision and the
-- redemption are NULL until then. A code is not stored: it is made of the row and a key.
CREATE TABLE oauth_request (
    -- in the order in which they were pushed
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT    NOT NULL UNIQUE,
    client_id      TEXT    NOT NULL,
    -- what the client asked for, as JSON
    parameters     BLOB    NOT NULL,
    -- how the client proved itself, and its key; all empty for a public client but the first
    auth_method    TEXT    NOT NULL,
    kid            TEXT    NOT NULL,
    alg            TEXT    NOT NULL,
    client_jkt     TEXT    NOT NULL,
    -- the thumbprint of the DPoP key, empty if the token request binds it
    jkt            TEXT    NOT NULL,
    made           INTEGER NOT NULL,
    opened         INTEGER,
    expires        INTEGER NOT NULL,
    account_id     INTEGER REFERENCES account (id) ON DELETE CASCADE,
    -- 'allow', 'deny', or empty
    decision       TEXT    NOT NULL DEFAULT '',
    decided_at     INTEGER,
    -- the epoch of the account's credentials at the decision
    epoch          INTEGER NOT NULL DEFAULT 0,
    granted_scope  TEXT    NOT NULL DEFAULT '',
    -- the browser that answered, NULL if it kept no cookie
    device_id      INTEGER,
    network        TEXT    NOT NULL DEFAULT '',
    user_agent     TEXT    NOT NULL DEFAULT '',
    redeemed_at    INTEGER,
    session_id     INTEGER,
    -- of those redeemed, so that no verifier is good for two codes
    challenge_hash BLOB    UNIQUE
) STRICT;

CREATE INDEX oauth_request_unopened ON oauth_request (seq) WHERE opened IS NULL;
CREATE INDEX oauth_request_expires ON oauth_request (expires);
CREATE INDEX oauth_request_account ON oauth_request (account_id) WHERE account_id IS NOT NULL;

-- What only the session of an OAuth grant has.
CREATE TABLE oauth_session (
    session_id      INTEGER PRIMARY KEY REFERENCES session (id) ON DELETE CASCADE,
    client_id       TEXT    NOT NULL,
    auth_method     TEXT    NOT NULL,
    kid             TEXT    NOT NULL,
    alg             TEXT    NOT NULL,
    client_jkt      TEXT    NOT NULL,
    dpop_jkt        TEXT    NOT NULL,
    requested_scope TEXT    NOT NULL,
    granted_scope   TEXT    NOT NULL,
    -- what the tokens allow: the granted scope with its permission sets expanded
    token_scope     TEXT    NOT NULL,
    -- which versions of the sets these were
    set_versions    TEXT    NOT NULL,
    ends_at         INTEGER NOT NULL,
    device_id       INTEGER,
    last_call_at    INTEGER,
    theft_at        INTEGER,
    -- counts the changes of this row
    version         INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX oauth_session_client ON oauth_session (client_id, client_jkt);

-- What an account's owner allowed a client before, so that it need not be asked again.
CREATE TABLE oauth_consent (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    client_id  TEXT    NOT NULL,
    scopes     TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    used_at    INTEGER NOT NULL,
    PRIMARY KEY (account_id, client_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX oauth_consent_used ON oauth_consent (used_at);
