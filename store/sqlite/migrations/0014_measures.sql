-- What moderation decided is about a DID and outlives the account. An account's row has
-- its measures while it is here; they wait here while the DID has no account.
CREATE TABLE measure (
    did              TEXT    PRIMARY KEY,
    takendown_at     INTEGER,
    takedown_ref     TEXT    NOT NULL,
    suspended_at     INTEGER,
    invites_disabled INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Records and blobs that were taken down: by DID as well.
CREATE TABLE takedown_by_did (
    did     TEXT    NOT NULL,
    -- collection/rkey of a record, or the CID of a blob
    subject TEXT    NOT NULL,
    ref     TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    -- the version that the moderator named: the record may be deleted since
    cid     TEXT    NOT NULL,
    PRIMARY KEY (did, subject)
) STRICT, WITHOUT ROWID;

INSERT INTO takedown_by_did (did, subject, ref, at, cid)
    SELECT a.did, t.subject, t.ref, t.at, t.cid FROM takedown t JOIN account a ON a.id = t.account_id;
DROP TABLE takedown;
ALTER TABLE takedown_by_did RENAME TO takedown;
