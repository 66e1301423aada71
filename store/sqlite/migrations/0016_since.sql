-- The revision of the repository's first commit here (an import begins a new history),
-- and of the newest that deleted a record whose loss a client must see: see repo.Head.
-- Of what older versions wrote, the oldest record counts; what they deleted is not known.
ALTER TABLE repo ADD COLUMN first_rev TEXT NOT NULL DEFAULT '';
ALTER TABLE repo ADD COLUMN removed_rev TEXT NOT NULL DEFAULT '';
UPDATE repo SET first_rev = coalesce((SELECT min(rev) FROM record WHERE repo_id = repo.id), rev) WHERE current = 1;

-- The newest posts: repo.PostCollection. BETWEEN and not two comparisons: with those,
-- SQLite would compile each query again whose bounds of key are parameters, to see if
-- their values are in the index.
CREATE INDEX record_post ON record (repo_id, rev) WHERE key BETWEEN 'app.bsky.feed.post/' AND 'app.bsky.feed.post0';
