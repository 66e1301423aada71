//go:build !linux

package system

import (
	"errors"
	"os"
)

// Clone makes the empty file to share the content of from, until one of them is written:
// errors.ErrUnsupported if the file systems cannot. Only Linux does it here.
func Clone(_, _ *os.File) error { return errors.ErrUnsupported }
