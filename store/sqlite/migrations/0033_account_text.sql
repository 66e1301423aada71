-- What the list of accounts is searched in: every three characters in a row, so that a
-- search among many accounts reads few of them.
CREATE VIRTUAL TABLE account_text USING fts5 (
    handle, email_key, content = 'account', content_rowid = 'id', tokenize = 'trigram case_sensitive 1'
);

-- What was searched in of a deleted account leaves the file, as all else of it does.
INSERT INTO account_text (account_text, rank) VALUES ('secure-delete', 1);
INSERT INTO account_text (account_text) VALUES ('rebuild');

CREATE TRIGGER account_text_insert AFTER INSERT ON account BEGIN
    INSERT INTO account_text (rowid, handle, email_key) VALUES (new.id, new.handle, new.email_key);
END;

CREATE TRIGGER account_text_update AFTER UPDATE OF handle, email_key ON account BEGIN
    INSERT INTO account_text (account_text, rowid, handle, email_key) VALUES ('delete', old.id, old.handle, old.email_key);
    INSERT INTO account_text (rowid, handle, email_key) VALUES (new.id, new.handle, new.email_key);
END;

CREATE TRIGGER account_text_delete AFTER DELETE ON account BEGIN
    INSERT INTO account_text (account_text, rowid, handle, email_key) VALUES ('delete', old.id, old.handle, old.email_key);
END;
