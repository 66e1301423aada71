-- What apps remember for an account: its preferences as a JSON array, in their
-- order. They are read and replaced as a whole.
CREATE TABLE preferences (
    account_id INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    list       TEXT NOT NULL
) STRICT;
