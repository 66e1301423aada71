-- What OAuth clients' hosts say of them, as it was fetched last.
CREATE TABLE oauth_client (
    client_id   TEXT    PRIMARY KEY,
    document    BLOB,
    -- the keys, if the document only names their URL
    jwks        BLOB,
    fetched_at  INTEGER,
    fresh_until INTEGER,
    -- the last fetch, if it failed, and why
    failed_at   INTEGER,
    error       TEXT    NOT NULL
) STRICT;

CREATE INDEX oauth_client_used ON oauth_client (max(coalesce(fetched_at, 0), coalesce(failed_at, 0)));

-- Keys that a client's set lacks: the sessions that are bound to one end after a while.
CREATE TABLE oauth_client_removed_key (
    client_id  TEXT    NOT NULL REFERENCES oauth_client ON DELETE CASCADE,
    thumbprint TEXT    NOT NULL,
    since      INTEGER NOT NULL,
    PRIMARY KEY (client_id, thumbprint)
) STRICT, WITHOUT ROWID;
