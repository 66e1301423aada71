package depot

import (
	"strings"

	"nestbox/backup"
)

// IsS3 reports whether a store's address names a bucket, not a folder.
func IsS3(address string) bool { return strings.HasPrefix(address, scheme) }

// Open returns the store with an address: s3://bucket/prefix, or the path of a folder, which
// is made if create is set and it is missing.
func Open(address string, s S3Settings, create bool) (backup.Depot, error) {
	if IsS3(address) {
		return OpenS3(address, s)
	}
	return OpenFolder(folderOf(address), create)
}

// Await is Open of a store that is written to, and may be away: a folder that cannot be opened yet is
// looked for in each call, which returns why until it is there.
func Await(address string, s S3Settings) (backup.Depot, error) {
	if IsS3(address) {
		return OpenS3(address, s)
	}
	return laterFolder(folderOf(address), true)
}

// folderOf returns the path of a folder's address.
func folderOf(address string) string { return strings.TrimPrefix(address, "file://") }
