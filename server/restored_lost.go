package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/datadir"
	"nestbox/store/sqlite"
)

// LostBlob is a blob whose file a restore could not bring back.
type LostBlob struct {
	DID syntax.DID `json:"did"`
	CID string     `json:"cid"`
	// Key names its file.
	Key string `json:"key"`
}

// lose notes a blob whose file is missing or damaged.
func (r *Restored) lose(did syntax.DID, b blob.Blob) {
	if r.LostBlobs++; len(r.Lost) < faultsLogged {
		r.Lost = append(r.Lost, LostBlob{did, b.CID.String(), b.Key})
	}
}

// errNotIntact: a server would answer wrongly, and write into the damage.
var errNotIntact = errors.New("the database that was restored is damaged, so the server does not start: " +
	"restore an earlier state with nestbox restore --at TIME, or this one as it is with nestbox restore; " +
	"either to the data directory, then start the server")

// checkIntact returns errNotIntact if the file of the database is damaged.
func checkIntact(ctx context.Context, dir datadir.Dir) (err error) {
	db, err := sqlite.Inspector{Path: dir.Database()}.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	intact, err := db.Intact()
	if err == nil && !intact {
		err = errNotIntact
	}
	return err
}

// readRestored returns what the data directory was made of by a restore, nil if it was not.
func readRestored(dir datadir.Dir) (*Restored, error) {
	raw, err := os.ReadFile(filepath.Join(string(dir), restoredName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // nil is none
	}
	if err != nil {
		return nil, fmt.Errorf("it is not known what was restored: %w", err)
	}
	var out Restored
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", restoredName, err)
	}
	return &out, nil
}

// lookAtRestored looks which of the blobs that the restore could not bring back are still lost.
func (s *Server) lookAtRestored(ctx context.Context) (string, error) {
	r, err := readRestored(s.dir)
	if err != nil || r == nil {
		return "", err
	}
	var still []string
	for _, l := range r.Lost {
		lost, err := s.stillLost(ctx, l)
		if err != nil {
			return "", err
		}
		if lost {
			still = append(still, l.CID+" of "+l.DID.String())
		}
	}
	if len(still) == 0 && r.LostBlobs == int64(len(r.Lost)) {
		return fmt.Sprintf("the %d blobs that a restore lost are there again, or in no record", r.LostBlobs), nil
	}
	more := ""
	if n := r.LostBlobs - int64(len(r.Lost)); n > 0 {
		more = fmt.Sprintf(", and up to %d more", n)
	}
	const shown = 5
	if n := len(still) - shown; n > 0 {
		more = fmt.Sprintf(", and up to %d more", r.LostBlobs-shown)
		still = still[:shown]
	}
	return "", fmt.Errorf("the restore of %s could not bring back the files of %s%s: their owners can upload them again; "+
		"nestbox verify names all that are missing", r.At.Format("2006-01-02"), strings.Join(still, ", "), more)
}

// stillLost reports whether a record still has a blob whose file is missing or has another size.
func (s *Server) stillLost(ctx context.Context, l LostBlob) (bool, error) {
	id, err := cid.Decode(l.CID)
	if err != nil {
		return false, fmt.Errorf("%s is damaged: %w", restoredName, err)
	}
	a, err := s.stores.Accounts.ByDID(ctx, l.DID)
	if errors.Is(err, account.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the accounts cannot be read: %w", err)
	}
	b, err := s.stores.Blobs.Get(ctx, a.ID, id)
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("the blobs cannot be read: %w", err)
	}
	size, there, err := s.blobFiles.Size(b.Key)
	return !there || size != b.Size, err
}
