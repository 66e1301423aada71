-- The host name that a passkey belongs to: browsers offer it there only.
ALTER TABLE passkey ADD COLUMN host TEXT NOT NULL DEFAULT '';
CREATE INDEX passkey_host ON passkey (host);

-- When an account's recovery codes were made.
ALTER TABLE recovery_key ADD COLUMN made_at INTEGER;
