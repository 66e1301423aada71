package system

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Resident returns how much memory a process has, in bytes.
func Resident(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path) //nolint:gosec // a number in a fixed path
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	value, _, ok := strings.Cut(after, "kB")
	if !ok {
		return 0, fmt.Errorf("%s has no VmRSS", path)
	}
	kib, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	return kib << 10, err
}
