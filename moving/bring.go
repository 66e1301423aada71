package moving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/repo"
	"nestbox/request"
)

const (
	// MaxArchive is how many times the size of the largest repository an archive may have.
	MaxArchive = 3
	// keptFor is how long a file, and what became of it, waits for its owner.
	keptFor = time.Hour
	// maxHeld is how many files wait at once, one of an account, and workers how many are
	// worked on at once.
	maxHeld = 16
	workers = 2
	// maxRefused is how many refused blobs are named.
	maxRefused = 100
	// maxOdd is how many preferences that are left out are named, and oddName how many bytes
	// of the name.
	maxOdd  = 20
	oddName = 100
	// bringPatience is how long a blob waits for room.
	bringPatience = 10 * time.Minute
	// pageOfMissing is how many blobs are asked for at once.
	pageOfMissing = 500
)

// Phase is how far a file is.
type Phase string

// The phases.
const (
	// Examining: it is read, and nothing changes. Ready: it waits for its owner's word.
	Examining Phase = "examining"
	Ready     Phase = "ready"
	// Bringing: it is brought in. Brought: it was.
	Bringing Phase = "bringing"
	Brought  Phase = "brought"
	// Failed: Err is why. What has come in before stays.
	Failed Phase = "failed"
)

// Refused is a blob that is not brought in.
type Refused struct {
	Name string
	Why  Reason
}

// Reason is why a blob is not brought in.
type Reason string

// The reasons.
const (
	// NotABlob: it is not named as blobs are. Damaged: it is not what its name says.
	NotABlob Reason = "name"
	Damaged  Reason = "damaged"
	TooLarge Reason = "large"
	// OverQuota: the account's blobs take as much room as they may.
	OverQuota Reason = "quota"
	// TakenDown: moderation took it down.
	TakenDown Reason = "taken-down"
	// Unused: no record refers to it.
	Unused Reason = "unused"
	// NoRoom: the server has no room now, or the account has brought as much as it may today.
	NoRoom Reason = "room"
)

// Seen is what the owner of a file saw when they decided: its ID, and of what is here the
// CID of the repository's commit and the number of preferences.
type Seen struct {
	File, Head  string
	Preferences int
}

// File is what a file holds, and how far it is.
type File struct {
	// ID is no other file's of the account.
	ID    string
	Phase Phase
	// Size is in bytes. Until is how long it waits.
	Size  int64
	Until time.Time
	// Archive: it is an archive, and not a repository alone; Parts is how many further ones
	// hold the blobs.
	Archive bool
	Parts   int
	// Repo: it has a repository, with so many Records, of which Odd could not be written here
	// and are kept as they are.
	Repo         bool
	Records, Odd int64
	// HasPreferences: it has preferences, of which so many will be kept here. OddPreferences
	// are the types of the first others, OddPreferencesAll how many those are.
	HasPreferences    bool
	Preferences       int
	OddPreferences    []string
	OddPreferencesAll int
	// Blobs is how many it has that are good, New those that are not here yet, There those
	// that are. Done is how many of the new ones have come in.
	Blobs, New, There, Done int
	// Refused are the first blobs that are not brought in, RefusedAll how many there are.
	Refused    []Refused
	RefusedAll int
	// Replaced: the repository has been replaced.
	Replaced bool
	Err      error
}

// held is a file that waits.
type held struct {
	account  *account.Account
	received *repo.Received
	client   request.Client
	// over is the CID of the commit that it may replace: its owner has seen that.
	over string
	// before is the account's file that this one replaces once it has come whole.
	before *held
	// used are those blobs of an archive that the records of its repository refer to.
	used map[string]bool
	// settled is closed when the phase is no longer Examining or Bringing.
	settled chan struct{}
	file    File
}

// refuse notes a blob that is not brought in.
func (f *File) refuse(name string, why Reason) {
	if f.RefusedAll++; len(f.Refused) < maxRefused {
		f.Refused = append(f.Refused, Refused{name, why})
	}
}

// MaxSize returns how many bytes a file may have.
func (s *Service) MaxSize() int64 { return MaxArchive * s.Repos.MaxImportSize() }

// Accept takes a file that the account's owner sends, and makes Run examine it. Once it has
// come whole it is in place of one that waited. It changes nothing of the account. Errors: those of May, ErrWorking,
// ErrFull, those of repo.Service.Receive.
func (s *Service) Accept(ctx context.Context, a *account.Account, r io.Reader) error {
	if err := s.May(ctx, a); err != nil {
		return err
	}
	h := &held{account: a, client: request.ClientOf(ctx), settled: make(chan struct{}), file: File{Phase: Examining}}
	if err := s.place(h); err != nil {
		return err
	}
	received, err := s.Repos.Receive(ctx, r, s.MaxSize(), func() bool { return s.makeRoom(h) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.held, a.ID)
		if h.before != nil {
			s.held[a.ID] = h.before
		}
		close(h.settled)
		return err
	}
	if h.before != nil {
		h.before.release()
		h.before = nil
	}
	delete(s.gone, a.ID)
	s.last = max(s.last+1, s.Now().UnixNano())
	h.file.ID = strconv.FormatInt(s.last, 36)
	h.received, h.file.Size, h.file.Until = received, received.Size(), s.Now().Add(keptFor)
	s.queue <- h // it has a place for each
	return nil
}

// place takes the account's place.
func (s *Service) place(h *held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held, s.queue = map[int64]*held{}, make(chan *held, maxHeld)
	}
	switch old := s.held[h.account.ID]; {
	case old != nil && old.busy():
		return ErrWorking
	case old != nil:
		h.before = old
	case len(s.held) >= maxHeld && !s.dropOldest(h, false):
		return ErrFull
	}
	s.held[h.account.ID] = h
	return nil
}

func (h *held) busy() bool { return h.file.Phase == Examining || h.file.Phase == Bringing }

// drop forgets a file that nothing works on.
func (s *Service) drop(h *held) {
	delete(s.held, h.account.ID)
	h.release()
}

// release gives its disk space back.
func (h *held) release() {
	if h.received != nil {
		h.received.Close()
		h.received = nil
	}
}

// dropOldest forgets the result that is longest known, or the file that has waited longest,
// for another one than but; taking: it must take disk space.
func (s *Service) dropOldest(but *held, taking bool) bool {
	var oldest *held
	for _, h := range s.held {
		if h == but || h.busy() || taking && h.received == nil {
			continue
		}
		if oldest == nil || h.waits() != oldest.waits() && oldest.waits() ||
			h.waits() == oldest.waits() && h.file.Until.Before(oldest.file.Until) {
			oldest = h
		}
	}
	if oldest == nil {
		return false
	}
	if oldest.waits() {
		if s.gone == nil {
			s.gone = map[int64]File{}
		}
		s.gone[oldest.account.ID] = File{Phase: Failed, Until: s.Now().Add(keptFor), Err: ErrGaveWay}
	}
	s.drop(oldest)
	return true
}

// waits reports whether the file waits for its owner's word.
func (h *held) waits() bool { return h.file.Phase == Ready }

// makeRoom gives up the disk space of a file that waits, for that of h: first of the one that
// h replaces. It reports whether there was one.
func (s *Service) makeRoom(h *held) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h != nil && h.before != nil && h.before.received != nil {
		h.before.release()
		h.before.file = File{Phase: Failed, Until: s.Now().Add(keptFor), Err: ErrGaveWay}
		return true
	}
	return s.dropOldest(h, true)
}

// File returns the account's file: ErrNothing.
func (s *Service) File(a *account.Account) (File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[a.ID]
	if h == nil {
		if f, ok := s.gone[a.ID]; ok {
			return f, nil
		}
		return File{}, ErrNothing
	}
	f := h.file
	f.Refused = slices.Clone(f.Refused)
	return f, nil
}

// Settled waits until nothing works on the account's file, for so long at most.
func (s *Service) Settled(ctx context.Context, a *account.Account, most time.Duration) {
	s.mu.Lock()
	h := s.held[a.ID]
	s.mu.Unlock()
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	select {
	case <-h.settled:
	case <-ctx.Done():
	}
}

// Discard forgets the account's file. Nothing there: nothing to do. Error: ErrWorking.
func (s *Service) Discard(a *account.Account) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[a.ID]
	delete(s.gone, a.ID)
	switch {
	case h == nil:
		return nil
	case h.busy():
		return ErrWorking
	}
	s.drop(h)
	return nil
}

// Bring makes Run bring in the account's file: its owner has seen what it holds. It is on the
// trail, and the owner is notified. Errors: ErrNothing if no file is Ready, ErrChanged if
// what is here is not what they have seen, those of May.
func (s *Service) Bring(ctx context.Context, a *account.Account, seen Seen) error {
	if err := s.May(ctx, a); err != nil {
		return err
	}
	s.mu.Lock()
	h := s.held[a.ID]
	ready := h != nil && h.file.Phase == Ready
	same := ready && h.file.ID == seen.File
	s.mu.Unlock()
	if !ready {
		return ErrNothing
	}
	now, err := s.Holdings(ctx, a)
	if err != nil {
		return err
	}
	if !same || now.Head != seen.Head || now.Preferences != seen.Preferences {
		return ErrChanged
	}
	e := account.NewEntry(ctx, s.Now().UTC(), account.EntryImported, account.ActorOwner)
	if err := s.Accounts.AddEntry(ctx, a.ID, e, s.Notices.Of(a, mail.NoticeImported, e, "")...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[a.ID] != h || h.file.Phase != Ready {
		return ErrNothing
	}
	h.over = seen.Head
	h.file.Phase, h.settled = Bringing, make(chan struct{})
	s.queue <- h // it has a place for each
	return nil
}

// collect forgets files that have waited long enough.
func (s *Service) collect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	for _, h := range s.held {
		if !h.busy() && now.After(h.file.Until) {
			s.drop(h)
		}
	}
	maps.DeleteFunc(s.gone, func(_ int64, f File) bool { return now.After(f.Until) })
}

// work examines a file, or brings it in.
func (s *Service) work(ctx context.Context, h *held) {
	ctx = request.WithClient(ctx, h.client)
	s.mu.Lock()
	phase, next, file := h.file.Phase, Ready, h.file
	s.mu.Unlock()
	do := s.examine
	if phase == Bringing {
		do, next = s.bring, Brought
	}
	err := do(ctx, h, &file)
	s.mu.Lock()
	defer s.mu.Unlock()
	done := h.file.Done
	h.file = file
	h.file.Phase, h.file.Done, h.file.Err, h.file.Until = next, max(done, file.Done), err, s.Now().Add(keptFor)
	if err != nil {
		h.file.Phase = Failed
		s.Log.LogAttrs(ctx, slog.LevelWarn, "file not brought in", slog.String("did", h.account.DID.String()),
			slog.String("while", string(phase)), slog.String("cause", err.Error()))
	}
	if h.file.Phase != Ready {
		h.release()
	}
	close(h.settled)
}

// examine notes what a file holds. It changes nothing of the account.
func (s *Service) examine(ctx context.Context, h *held, f *File) error {
	a, err := s.open(h, f)
	if err != nil {
		return err
	}
	if err := s.examineRepo(ctx, h, a, f); err != nil {
		return err
	}
	if a == nil {
		return nil
	}
	list, err := a.preferences()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		if err := s.examinePreferences(ctx, h.account, list, f); err != nil {
			return err
		}
	}
	if err := a.readTypes(); err != nil {
		return err
	}
	return s.eachBlob(ctx, h, a, f, func(b *packedBlob) (Reason, error) {
		r, err := b.open()
		if err != nil {
			return Damaged, nil //nolint:nilerr // it is named as refused
		}
		_, err = io.Copy(io.Discard, r)
		return b.reason(errors.Join(err, r.Close()))
	})
}

// examinePreferences notes which preferences will be kept.
func (s *Service) examinePreferences(ctx context.Context, owner *account.Account, list []jsontext.Value, f *File) error {
	kept, odd, err := s.Prefs.Fit(ctx, owner.DID, list)
	if err != nil {
		return fmt.Errorf("preferences: %w", err)
	}
	f.HasPreferences, f.Preferences, f.OddPreferencesAll, f.OddPreferences = kept > 0, kept, len(odd), nil
	for _, name := range odd[:min(len(odd), maxOdd)] {
		f.OddPreferences = append(f.OddPreferences, strings.ToValidUTF8(name[:min(len(name), oddName)], ""))
	}
	return nil
}

// open opens the archive; nil if the file is a repository alone.
func (s *Service) open(h *held, f *File) (*archive, error) {
	var head [4]byte
	if _, err := h.received.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("%w: it has less than four bytes", ErrArchive)
	}
	if f.Archive = string(head[:2]) == "PK"; !f.Archive {
		f.Repo = true
		return nil, nil
	}
	a, err := openArchive(h.received, h.received.Size(), h.account.DID.String())
	if err != nil {
		return nil, err
	}
	f.Parts, f.Repo = a.parts, a.repo != nil
	return a, nil
}

// repoFile returns the repository's file, and what closes it: it is unpacked first.
func (s *Service) repoFile(ctx context.Context, h *held, a *archive) (*repo.Received, func(), error) {
	if a == nil {
		return h.received, func() {}, nil
	}
	r, err := a.repo.open()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	out, err := s.Repos.Receive(ctx, r, s.Repos.MaxImportSize(), func() bool { return s.makeRoom(h) })
	if err != nil {
		return nil, nil, err
	}
	return out, out.Close, nil
}

// examineRepo notes what the repository holds, if there is one.
func (s *Service) examineRepo(ctx context.Context, h *held, a *archive, f *File) error {
	if !f.Repo {
		return nil
	}
	file, end, err := s.repoFile(ctx, h, a)
	if err != nil {
		return err
	}
	defer end()
	var used func(cid.Cid)
	if a != nil {
		in := a.names()
		h.used = map[string]bool{}
		used = func(id cid.Cid) {
			if text := id.String(); in[text] {
				h.used[text] = true
			}
		}
	}
	found, err := file.Examine(ctx, repo.Account{ID: h.account.ID, DID: h.account.DID}, used)
	f.Records, f.Odd = found.Records, found.Odd
	return err
}

// bring brings in a file that was examined: the repository first, so that the blobs are in
// use when they come.
func (s *Service) bring(ctx context.Context, h *held, f *File) error {
	owner, err := s.again(ctx, h.account)
	if err != nil {
		return err
	}
	a, err := s.open(h, f)
	if err != nil {
		return err
	}
	if f.Repo {
		if err := s.bringRepo(ctx, h, a, owner); err != nil {
			return err
		}
		f.Replaced = true
	}
	if a == nil {
		return nil
	}
	if f.HasPreferences {
		list, err := a.preferences()
		if err != nil {
			return err
		}
		if f.Preferences, err = s.Prefs.Bring(ctx, owner.DID, list); err != nil {
			return fmt.Errorf("preferences: %w", err)
		}
	}
	if err := a.readTypes(); err != nil {
		return err
	}
	return s.eachBlob(ctx, h, a, f, func(b *packedBlob) (Reason, error) {
		why, err := s.bringBlob(ctx, owner, b)
		if why == "" && err == nil {
			s.mu.Lock()
			h.file.Done++
			s.mu.Unlock()
		}
		return why, err
	})
}

func (s *Service) bringRepo(ctx context.Context, h *held, a *archive, owner *account.Account) error {
	file, end, err := s.repoFile(ctx, h, a)
	if err != nil {
		return err
	}
	defer end()
	_, err = file.Import(ctx, repo.Account{ID: owner.ID, DID: owner.DID}, h.over)
	return err
}

// Run works on files until ctx ends. What is under way then is to be sent again; what has
// come in stays.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	if s.held == nil {
		s.held, s.queue = map[int64]*held{}, make(chan *held, maxHeld)
	}
	queue := s.queue
	s.mu.Unlock()
	done := make(chan struct{})
	for range workers {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case h := <-queue:
					s.work(ctx, h)
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for ended := 0; ended < workers; {
		select {
		case <-tick.C:
			s.collect()
		case <-done:
			ended++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		h.release()
	}
}
