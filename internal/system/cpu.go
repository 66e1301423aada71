package system

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// CPUTime returns how much time this process has used on all cores together.
func CPUTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("look up the time that this process has used: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
