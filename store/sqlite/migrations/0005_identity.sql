-- Handles that are being given to accounts: from before the PLC directory is told
-- until the account has its new one.
CREATE TABLE handle_change (
    account_id INTEGER PRIMARY KEY REFERENCES account (id) ON DELETE CASCADE,
    handle     TEXT    NOT NULL UNIQUE,
    -- who does it, as the trail has it
    by         TEXT    NOT NULL,
    begun_at   INTEGER NOT NULL
) STRICT;
