-- A repository: the account's (current), one that is being imported, or one
-- that is to be removed. Everything of a repository is found by its number.
CREATE TABLE repo (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL for what Sweep removes
    account_id INTEGER REFERENCES account (id) ON DELETE SET NULL,
    -- 1 for the account's own, 0 for an import under way
    current    INTEGER NOT NULL,
    cid        BLOB,
    rev        TEXT    NOT NULL DEFAULT '',
    commit_block BLOB,
    root_id    INTEGER NOT NULL DEFAULT 0,
    root_cid   BLOB,
    next_node  INTEGER NOT NULL DEFAULT 1,
    records    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX repo_account ON repo (account_id, current) WHERE account_id IS NOT NULL;
CREATE INDEX repo_removed ON repo (id) WHERE account_id IS NULL;

-- A node of a tree that changes gets a new number, the next one: what a commit
-- changes, a path mostly, lies together, and so the next commit finds it, and
-- changes one page instead of one a node. The number is in the lower 32 bits of
-- id, the repository's above them: nodes of one repository need no index.
CREATE TABLE node (
    id       INTEGER PRIMARY KEY,
    rev      TEXT NOT NULL,
    -- the children's numbers, in the order of the block, as varints
    children BLOB NOT NULL,
    block    BLOB NOT NULL
) STRICT;

-- Keys compare by bytes, as in the tree.
CREATE TABLE record (
    repo_id INTEGER NOT NULL,
    key     TEXT    NOT NULL,
    cid     BLOB    NOT NULL,
    rev     TEXT    NOT NULL,
    -- repo.Write's; NULL where it is empty
    subject TEXT,
    block   BLOB    NOT NULL,
    PRIMARY KEY (repo_id, key)
) STRICT, WITHOUT ROWID;

-- key is in it, since it belongs to the primary key.
CREATE INDEX record_subject ON record (repo_id, subject) WHERE subject IS NOT NULL;

-- What records refer to, whether it was uploaded or not.
CREATE TABLE blob_ref (
    repo_id INTEGER NOT NULL,
    cid     TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    rev     TEXT    NOT NULL,
    PRIMARY KEY (repo_id, cid, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_ref_record ON blob_ref (repo_id, key);

CREATE TABLE blob (
    -- one that is gone is in blob_orphaned
    account_id INTEGER NOT NULL,
    cid        TEXT    NOT NULL,
    size       INTEGER NOT NULL,
    mime_type  TEXT    NOT NULL,
    file       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    -- when its last reference went, or it was uploaded and never had one; NULL
    -- while a record refers to it
    unused_since INTEGER,
    -- 1 once a record has referred to it
    was_used   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, cid)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_unused ON blob (unused_since) WHERE unused_since IS NOT NULL;

-- Accounts that are gone, until their blobs have been removed, in steps: no
-- transaction is as long as an account is large.
CREATE TABLE blob_orphaned (
    account_id INTEGER PRIMARY KEY
) STRICT;

CREATE TRIGGER account_gone AFTER DELETE ON account BEGIN
    INSERT INTO blob_orphaned (account_id) SELECT OLD.id WHERE EXISTS (SELECT 1 FROM blob WHERE account_id = OLD.id);
END;

-- Files that belong to no blob: intended, or left by one that is gone.
CREATE TABLE blob_garbage (
    file TEXT PRIMARY KEY,
    at   INTEGER NOT NULL,
    -- 1 where an upload may still be under way
    intended INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_intended ON blob_garbage (at) WHERE intended = 1;

CREATE TRIGGER blob_gone AFTER DELETE ON blob BEGIN
    INSERT INTO blob_garbage (file, at, intended) VALUES (OLD.file, 0, 0)
    ON CONFLICT DO UPDATE SET intended = 0;
END;

-- The firehose. AUTOINCREMENT numbers it without a gap, since there is one
-- writer and a transaction that is undone gives its numbers back, and never
-- gives a number again that was pruned. Of a deleted account's events only the
-- rows are left: kind and did are empty.
CREATE TABLE event (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    at    INTEGER NOT NULL,
    kind  TEXT    NOT NULL,
    did   TEXT    NOT NULL,
    -- where seq belongs in body, the message without it
    split INTEGER NOT NULL,
    -- the bytes of all bodies up to and with this one, since the log was last
    -- empty: how much is kept is a difference
    total INTEGER NOT NULL,
    body  BLOB    NOT NULL
) STRICT;

-- Accounts that were deleted, until their events are removed: those with a
-- number below before, of which those up to after have been looked through.
CREATE TABLE event_deleted (
    did    TEXT PRIMARY KEY,
    before INTEGER NOT NULL,
    after  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row while the state of every repository is being told anew, after the
-- numbers have jumped: the last account that was told of.
CREATE TABLE announce (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    after INTEGER NOT NULL
) STRICT;
