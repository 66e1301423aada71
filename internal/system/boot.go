package system

import (
	"os"
	"strings"
)

// BootID returns what tells this start of the machine from others, empty if the system does not
// tell.
func BootID() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}
