package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// mostConnections bounds the connections to the server's address. Further ones wait
// until others end; idle and slow ones end by their timeouts.
const mostConnections = 16_384

// maxConnections returns mostConnections, or half of the files that the process may
// open if that is less: the database, blobs and requests to others need some as well.
func maxConnections() (int, error) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("look how many files may be open: %w", err)
	}
	return int(min(uint64(mostConnections), max(1, uint64(files.Cur)/2))), nil //nolint:unconvert // small; the type differs between systems
}
