-- Permission sets that Lexicons publish, as they were last found: see schema.Lexicon.
CREATE TABLE permission_set (
    nsid       TEXT PRIMARY KEY,
    did        TEXT NOT NULL,
    cid        TEXT NOT NULL,
    document   TEXT NOT NULL,
    found_at   INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    failure    TEXT NOT NULL,
    used_at    INTEGER NOT NULL,
    granted    INTEGER NOT NULL
) STRICT;
CREATE INDEX permission_set_checked ON permission_set (granted, checked_at);
CREATE INDEX permission_set_used ON permission_set (granted, used_at);
