package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// Made returns when the service made its newest snapshot: zero if it has made none, the store lost it, or
// it is younger than now. other names the store's newest snapshot if it is younger and the service has not
// made it: the store may have another writer, which may have removed the service's own as an old one. It
// only lists.
func (s *Service) Made(ctx context.Context) (at time.Time, other string, err error) {
	names, err := Names(ctx, s.Depot)
	if err != nil {
		return at, "", err
	}
	own, err := s.remembered()
	if err != nil {
		return at, "", nil //nolint:nilerr // nothing is known of the store
	}
	if other, err = s.other(own, names, s.Now()); err != nil {
		return at, "", err
	}
	if (other != "" || slices.Contains(names, own.Name)) && !own.At.After(s.Now()) {
		at = own.At
	}
	return at, other, nil
}

// other returns the newest of some names that is not younger than now, if it is younger than the snapshot
// that the service made last, and it has not made that one either, while its clock ran ahead.
func (s *Service) other(own *Manifest, names []string, now time.Time) (string, error) {
	if len(names) == 0 {
		return "", nil
	}
	name := names[latest(names, now)]
	if name <= own.Name {
		return "", nil
	}
	made, err := s.made()
	if err != nil || made[name] {
		return "", err
	}
	return name, nil
}

// made returns the names of the snapshots that the service made, as far as its state knows.
func (s *Service) made() (map[string]bool, error) {
	raw, err := os.ReadFile(filepath.Join(s.State, madeFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the backup's state: %w", err)
	}
	made := map[string]bool{}
	for name := range strings.Lines(string(raw)) {
		made[strings.TrimSuffix(name, "\n")] = true
	}
	return made, nil
}

// noteMade notes that the service makes a snapshot, and forgets those that the store has no more. there
// are the names of the store.
func (s *Service) noteMade(there []string, name string) error {
	made, err := s.made()
	if err != nil {
		return err
	}
	var lines strings.Builder
	for _, n := range append(slices.Clone(there), name) {
		if made[n] || s.Adopt || n == name {
			lines.WriteString(n + "\n")
		}
	}
	return durable.WriteFile(filepath.Join(s.State, madeFile), []byte(lines.String()), 0o600)
}
