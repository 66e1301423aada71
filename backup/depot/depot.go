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
	return OpenFolder(strings.TrimPrefix(address, "file://"), create)
}
