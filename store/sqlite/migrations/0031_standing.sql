-- One row: what a program must know before it works on this database.
CREATE TABLE standing (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- the lowest newest migration of a program that may read and write it: see migrate.go
    min_reader INTEGER NOT NULL,
    -- when the last write was made that only shows that the database can be written
    beat_at    INTEGER NOT NULL
) STRICT;

INSERT INTO standing (id, min_reader, beat_at) VALUES (1, 31, 0);
