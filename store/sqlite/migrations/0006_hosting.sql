-- Signing keys that were promised to accounts which move in.
CREATE TABLE reserved_key (
    -- did:key
    public_key  TEXT    PRIMARY KEY,
    -- whom it was promised to; NULL: to nobody yet
    did         TEXT    UNIQUE,
    -- the private key, sealed with the data directory's key file
    sealed      BLOB    NOT NULL,
    reserved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX reserved_key_age ON reserved_key (reserved_at);

CREATE INDEX account_delete_after ON account (delete_after) WHERE delete_after IS NOT NULL;
