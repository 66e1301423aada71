package system

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// IsJournal reports whether a file is the stream to the journal that the service manager names in
// JOURNAL_STREAM, by device and inode (systemd.exec(5)).
func IsJournal(f *os.File, stream string) bool {
	var st unix.Stat_t
	if stream == "" || unix.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino) == stream
}
