package auth

import (
	"fmt"
	"os"
)

// CheckKeyring says whether the keyring at path can be opened, and changes
// nothing. One that is missing is a fault here: OpenKeyring would make another,
// and every session would end.
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
