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

// Made returns when the service made its newest snapshot: zero if it has made none, the store has it no
// more, or it is younger than now. other names the store's newest snapshot if it is younger and the service
// has not made it: the store may have another writer. It only lists.
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
	if slices.Contains(names, own.Name) && !own.At.After(s.Now()) {
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
	if err != nil || slices.Contains(made, name) {
		return "", err
	}
	return name, nil
}

// made returns the names of the snapshots that the service made, as far as its state knows.
func (s *Service) made() ([]string, error) {
	raw, err := os.ReadFile(filepath.Join(s.State, madeFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the backup's state: %w", err)
	}
	return strings.Fields(string(raw)), nil
}

// mostMade is how many names of snapshots are remembered, the youngest.
const mostMade = 10_000

// noteMade notes that the service makes a snapshot. there are the names of the store: those that it lacks
// are remembered, too, since it may be another one, as while a disk is not mounted.
func (s *Service) noteMade(there []string, name string) error {
	names, err := s.made()
	if err != nil {
		return err
	}
	if s.Adopt {
		names = append(names, there...)
	}
	names = append(names, name)
	slices.Sort(names)
	names = slices.Compact(names)
	names = names[max(0, len(names)-mostMade):]
	return durable.WriteFile(filepath.Join(s.State, madeFile), []byte(strings.Join(names, "\n")+"\n"), 0o600)
}
