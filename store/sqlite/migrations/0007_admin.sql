-- Records and blobs that moderation took down. It is apart from them: what is
-- taken down stays so, whether it is deleted, written again, or imported.
CREATE TABLE takedown (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    -- collection/rkey of a record, or the CID of a blob
    subject    TEXT    NOT NULL,
    ref        TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (account_id, subject)
) STRICT, WITHOUT ROWID;

-- What admins did, the latest admin.AuditLimit of it. It outlives accounts, so
-- it refers to none.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    who        TEXT    NOT NULL,
    what       TEXT    NOT NULL,
    -- the DID of the account concerned; empty where it concerns none
    did        TEXT    NOT NULL,
    -- what of the account: a record, a blob; empty for itself
    subject    TEXT    NOT NULL,
    details    TEXT    NOT NULL,
    network    TEXT    NOT NULL,
    user_agent TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_did ON audit (did, id);
