-- What tokens and cookies of the server that this one took over from mean here.

-- When the sessions were taken over: one row, none if they never were.
CREATE TABLE legacy_since (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;

-- SHA-256 of what names a token there: the jti of a refresh token, and what an OAuth client
-- presents (ref-…, or the jti tok-… of an access token).
CREATE TABLE legacy_token (
    hash       BLOB    PRIMARY KEY,
    session_id INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX legacy_token_session ON legacy_token (session_id);

-- The hash of the secret that a browser's two cookies are here.
CREATE TABLE legacy_browser (
    hash      BLOB    PRIMARY KEY,
    device_id INTEGER NOT NULL REFERENCES device (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX legacy_browser_device ON legacy_browser (device_id);
