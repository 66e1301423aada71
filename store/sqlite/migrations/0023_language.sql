-- The tag of the language of mails to the owner; empty if they have seen no page.
ALTER TABLE account ADD COLUMN language TEXT NOT NULL DEFAULT '';
