-- Who began what another process may have to finish, for the audit log.
ALTER TABLE handle_change ADD COLUMN who TEXT NOT NULL DEFAULT '';
ALTER TABLE key_change ADD COLUMN who TEXT NOT NULL DEFAULT '';

-- The admin who made an account whose DID is being registered; empty: its owner.
ALTER TABLE account ADD COLUMN made_by TEXT NOT NULL DEFAULT '';

-- What was taken down, as the moderator named it: it may be deleted since.
ALTER TABLE takedown ADD COLUMN cid TEXT NOT NULL DEFAULT '';

-- Whose mail it is: it goes with the account, whatever its address is by then.
ALTER TABLE outbox ADD COLUMN account_id INTEGER;
CREATE INDEX outbox_account ON outbox (account_id) WHERE account_id IS NOT NULL;
