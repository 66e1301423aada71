-- The browser that an entry is about, 0 for none.
ALTER TABLE trail ADD COLUMN browser_id INTEGER NOT NULL DEFAULT 0;

-- When and from where an app password was last used by a session that has ended since:
-- living sessions know it themselves.
ALTER TABLE app_password ADD COLUMN used_at INTEGER;
ALTER TABLE app_password ADD COLUMN used_network TEXT NOT NULL DEFAULT '';
