-- What waits to be sent. A row goes when the mail server has taken it, or when
-- it is given up.
CREATE TABLE outbox (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    recipient     TEXT    NOT NULL,
    -- the address as it is compared: lower case
    recipient_key TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    text          TEXT    NOT NULL,
    html          TEXT    NOT NULL,
    queued_at     INTEGER NOT NULL,
    -- when the message is of no more use; NULL: it always is
    until         INTEGER,
    due           INTEGER NOT NULL,
    attempts      INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX outbox_due ON outbox (due, id);
CREATE INDEX outbox_recipient ON outbox (recipient_key, id);

-- The codes that were sent by e-mail, one for each account and purpose.
CREATE TABLE email_code (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    purpose    TEXT    NOT NULL,
    -- keyed with a secret of the data directory
    hash       BLOB    NOT NULL,
    made_at    INTEGER NOT NULL,
    expires    INTEGER NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, purpose)
) STRICT, WITHOUT ROWID;

CREATE INDEX email_code_hash ON email_code (purpose, hash);

-- Written where there is no account to make a code for, so that it takes as long.
CREATE TABLE email_code_decoy (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;

-- whether a sign-in with the password takes a code as well
ALTER TABLE account ADD COLUMN email_factor INTEGER NOT NULL DEFAULT 0;
-- whether the owner is told of what happens to the account
ALTER TABLE account ADD COLUMN notices INTEGER NOT NULL DEFAULT 1;
