-- How many different blobs the records of a repository refer to: to count them
-- would be to look at each reference.
ALTER TABLE repo ADD COLUMN blobs INTEGER NOT NULL DEFAULT 0;
UPDATE repo SET blobs = (SELECT count(DISTINCT cid) FROM blob_ref WHERE repo_id = repo.id);
