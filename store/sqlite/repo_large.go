package sqlite

import "zombiezen.com/go/sqlite"

// maxInline is how large a block may be that lies in its record's row, in bytes. SQLite reads a
// row of record whole to compare its key, in every search that passes it: one with such a block is
// on two pages. Larger blocks are in record_block. What is stored depends on it: see migration 0034.
const maxInline = 4096

const (
	// wholeBlock is the block of a row of record, wherever it lies; NULL if it is missing.
	wholeBlock = "CASE WHEN block_id IS NULL THEN block ELSE (SELECT b.block FROM record_block b WHERE b.id = block_id) END"
	// blockLength is its size in bytes. SQLite knows that of a block that it does not read.
	blockLength = "CASE WHEN block_id IS NULL THEN length(block) ELSE (SELECT length(b.block) FROM record_block b WHERE b.id = block_id) END"
)

// inline returns what of a block lies in its record's row.
func inline(block []byte) []byte {
	if len(block) > maxInline {
		return []byte{}
	}
	return block
}

// storeLarge stores the block of a record whose row has just been written, if that is not
// inline. Triggers remove it.
func storeLarge(c *sqlite.Conn, number int64, key string, block []byte) error {
	if len(block) <= maxInline {
		return nil
	}
	_, err := change(c, "INSERT INTO record_block (block) VALUES (?)", func(s *sqlite.Stmt) { s.BindBytes(1, block) })
	if err == nil {
		id := c.LastInsertRowID()
		_, err = change(c, "UPDATE record SET block_id = ? WHERE repo_id = ? AND key = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindInt64(2, number); s.BindText(3, key) })
	}
	return wrap(err, "store large block of record "+key)
}
