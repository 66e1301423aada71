-- Accounts that earn no invite codes that work, and all codes by age.
ALTER TABLE account ADD COLUMN invites_disabled INTEGER NOT NULL DEFAULT 0;

CREATE INDEX invite_code_created ON invite_code (created_at, code);
