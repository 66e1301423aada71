package export

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/prefs"
	"nestbox/request"
)

// What people take along alone: the repository, preferences, one file.

// filesShown is how many files a page lists.
const filesShown = 50

// BeginRepo is Begin for the repository alone, as a CAR file: repo.ErrNoRepo too.
func (s *Service) BeginRepo(ctx context.Context, a *account.Account) (_ *Archive, err error) {
	out := &Archive{s: s, account: a, Name: fileName(a, s.Now(), 0, "car"), alone: true}
	if out.place, err = s.enter(a.DID); err != nil {
		return nil, err
	}
	if err = request.Charge(ctx, s.Limits, a.DID.String()+" repository", 1, daily); err == nil {
		out.snapshot, err = s.Snapshot(ctx, a)
	}
	if err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}

// Preferences returns what apps keep for an account, JSON, and the name of its file.
func (s *Service) Preferences(ctx context.Context, a *account.Account) (name string, content []byte, err error) {
	values, err := s.preferences(ctx, a)
	if err == nil {
		content, err = json.MarshalIndent(values, "", "  ")
	}
	if err == nil {
		err = s.note(ctx, a, Preferences)
	}
	return fileName(a, s.Now(), 0, "json"), append(content, '\n'), err
}

func (s *Service) preferences(ctx context.Context, a *account.Account) (map[string]any, error) {
	all, err := s.Prefs.Preferences(ctx, a.DID)
	if err != nil && !errors.Is(err, prefs.ErrNoAccount) {
		return nil, err
	}
	values := make([]json.RawMessage, 0, len(all))
	for _, one := range all {
		values = append(values, json.RawMessage(one))
	}
	return map[string]any{"preferences": values}, nil
}

// FilesAfter returns a page of an account's files behind a CID, and the CID behind which the
// next one begins, empty if there is none.
func (s *Service) FilesAfter(ctx context.Context, a *account.Account, cursor string) (page []blob.Kept, next string, err error) {
	page, err = s.Files.Kept(ctx, a.ID, cursor, filesShown+1)
	if len(page) > filesShown {
		page = page[:filesShown]
		next = page[filesShown-1].CID.String()
	}
	return page, next, err
}

// SendFile answers a request by one of an account's files, as getBlob does: blob.ErrNotFound.
func (s *Service) SendFile(w http.ResponseWriter, r *http.Request, a *account.Account, id string) error {
	parsed, err := dagcbor.ParseCID(id)
	if err != nil || !dagcbor.IsBlobCID(parsed) {
		return blob.ErrNotFound
	}
	b, file, err := s.Files.Open(r.Context(), a.ID, parsed)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	b.Send(w, r, file)
	return nil
}
