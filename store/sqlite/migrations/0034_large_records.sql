-- Blocks of records that are larger than 4096 bytes (maxInline). SQLite reads a row of record
-- whole to compare its key, whoever searches there: a large block was read in everybody's
-- searches.
CREATE TABLE record_block (
    id    INTEGER PRIMARY KEY,
    block BLOB NOT NULL
) STRICT;

-- The block's row in record_block, if it has one: then block is empty.
ALTER TABLE record ADD COLUMN block_id INTEGER;

-- No row is read beyond its first page to find the large ones.
CREATE TEMP TABLE large (id INTEGER PRIMARY KEY, repo_id INTEGER NOT NULL, key TEXT NOT NULL);
INSERT INTO temp.large (repo_id, key) SELECT repo_id, key FROM main.record WHERE length(block) > 4096;
INSERT INTO main.record_block (id, block)
    SELECT l.id, r.block FROM temp.large l CROSS JOIN main.record r ON r.repo_id = l.repo_id AND r.key = l.key;
UPDATE main.record SET block = x'', block_id = l.id FROM temp.large l WHERE record.repo_id = l.repo_id AND record.key = l.key;
DROP TABLE temp.large;

-- A large block goes with its record, and when another takes its place.
CREATE TRIGGER record_block_gone AFTER DELETE ON record WHEN OLD.block_id IS NOT NULL BEGIN
    DELETE FROM record_block WHERE id = OLD.block_id;
END;

CREATE TRIGGER record_block_replaced AFTER UPDATE OF block_id ON record WHEN OLD.block_id IS NOT NULL AND OLD.block_id IS NOT NEW.block_id BEGIN
    DELETE FROM record_block WHERE id = OLD.block_id;
END;
