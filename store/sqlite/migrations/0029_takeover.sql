-- One row if this database was made of another server's data directory. Until finished_at no
-- server starts on it. Events up to last_event have that server's bytes.
CREATE TABLE takeover (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    source      TEXT    NOT NULL,
    began_at    INTEGER NOT NULL,
    finished_at INTEGER,
    last_event  INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What has been taken over of each account's own database there, and what that was like
-- then: see takeover.Progress. Empty once the take-over has ended.
CREATE TABLE takeover_actor (
    did      TEXT    PRIMARY KEY,
    rev      TEXT    NOT NULL,
    size     INTEGER NOT NULL,
    wal_size INTEGER NOT NULL,
    changed  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
