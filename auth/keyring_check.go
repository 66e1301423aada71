package auth

import (
	"fmt"
	"os"
)

// CheckKeyring returns an error if the keyring at path cannot be opened, and changes
// nothing. A missing keyring is an error here: OpenKeyring would make a new one, and
// every session would end.
func CheckKeyring(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("key ring: %w", err)
	}
	f, err := readKeyFile(path)
	if err != nil {
		return err
	}
	for _, s := range f.Keys {
		if s.Configured {
			continue
		}
		if _, err := s.secret(path); err != nil {
			return err
		}
	}
	return nil
}
