-- Signing keys that are being given to accounts: from before the PLC directory is
-- told until the account has its new one.
CREATE TABLE key_change (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    public     TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    begun_at   INTEGER NOT NULL
) STRICT;
