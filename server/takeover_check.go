package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/blob"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/repo"
	"nestbox/store"
	"nestbox/store/reference"
	"nestbox/store/sqlite"
	"nestbox/takeover"
)

// CheckedTakeover is how a data directory compares with the one that was taken over.
type CheckedTakeover struct {
	Accounts int `json:"accounts"`
	// Same are repositories that are at the old commit, Newer those that were written since.
	Same     int             `json:"same"`
	Newer    int             `json:"newer"`
	Blobs    CheckedBlobs    `json:"blobs"`
	Sessions CheckedSessions `json:"sessions"`
	Grants   CheckedGrants   `json:"grants"`
	// Differences are what is not as it was, for another reason than a write since.
	Differences []string `json:"differences,omitempty"`
	// Warnings are what looks as if a setting were wrong.
	Warnings []string `json:"warnings,omitempty"`
}

// CheckedBlobs compares the blobs of the accounts that are here.
type CheckedBlobs struct {
	// Old are those that the old server has, Here those that are here, too.
	Old  int `json:"old"`
	Here int `json:"here"`
	// Missing are those whose file the old server lacks, too; Gone those that nothing here
	// refers to any more.
	Missing int `json:"missing"`
	Gone    int `json:"gone"`
}

// CheckedSessions compares the sessions of the accounts that are here.
type CheckedSessions struct {
	// Old are those that lived on the old server at the take-over, Here those that live here.
	// The others have ended since.
	Old   int `json:"old"`
	Here  int `json:"here"`
	Ended int `json:"ended"`
	// Refreshed are those that were used here, Opened the sessions that began here.
	Refreshed int64 `json:"refreshed"`
	Opened    int64 `json:"opened"`
}

// CheckedGrants compares what the accounts that are here granted to OAuth clients: that each is
// of the same account and client, and bound to the same key (DPoP, RFC 9449).
type CheckedGrants struct {
	// Old are those that lived on the old server at the take-over, Here those that live here.
	// The others have ended since.
	Old   int `json:"old"`
	Here  int `json:"here"`
	Ended int `json:"ended"`
}

// checking is a CheckTakeover, and what it has open.
type checking struct {
	*CheckedTakeover

	source    *reference.Source
	originals takeover.Originals
	view      store.Inspection
	there     map[syntax.DID]store.Inspected
	// untouched: nothing was written here since the take-over.
	untouched bool
	blobs     map[blobName]bool   // that are here
	wanted    map[blobName]string // that are not, and a record that refers to each
	// tokens are the old server's, whose sessions live here.
	tokens map[[sha256.Size]byte]store.InheritedToken
}

// blobName names a blob of an account.
type blobName struct {
	did syntax.DID
	cid string
}

// CheckTakeover compares what was taken over with the source, account by account: head, status,
// records, blobs, sessions and grants. A server may run on it. from names the bucket of the source's
// blobs, if they are in one. ErrNotTaken.
func CheckTakeover(ctx context.Context, c *config.Config, from config.Reference, now time.Time) (out CheckedTakeover, err error) {
	dir := datadir.Dir(c.DataDirectory)
	taken, err := readTaken(dir)
	if err != nil {
		return out, err
	}
	if taken == nil {
		return out, fmt.Errorf("%s: %w", dir, ErrNotTaken)
	}
	k := checking{CheckedTakeover: &out}
	if k.untouched, err = taken.untouched(dir); err != nil {
		return out, err
	}
	if k.originals, err = originalsOf(from.Bucket, taken.Places); err != nil {
		return out, err
	}
	scratch, err := os.MkdirTemp("", "nestbox-takeover-")
	if err != nil {
		return out, fmt.Errorf("make folder for copies of databases: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	if k.source, err = reference.OpenSource(ctx, taken.Places, scratch); err != nil {
		return out, fmt.Errorf("open the source: %w", err)
	}
	defer func() { err = errors.Join(err, k.source.Close()) }()
	if k.view, err = (sqlite.Inspector{Path: dir.Database()}).Open(ctx); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, k.view.Close()) }()
	if err := k.load(); err != nil {
		return out, err
	}
	if err := k.accounts(ctx); err != nil {
		return out, err
	}
	return out, k.inherited(ctx, c.OAuthTrustedClients, now)
}

// load reads which accounts and blobs are here.
func (k *checking) load() error {
	k.there, k.blobs, k.wanted = map[syntax.DID]store.Inspected{}, map[blobName]bool{}, map[blobName]string{}
	for after := int64(0); ; {
		page, err := k.view.Accounts(after, 1000)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			k.there[a.DID], after = a, a.ID
		}
	}
	err := k.view.Blobs(func(did syntax.DID, b blob.Blob) error {
		if b.CID.Defined() {
			k.blobs[blobName{did, b.CID.String()}] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	return k.view.MissingBlobs(func(did syntax.DID, id, record string) error {
		k.wanted[blobName{did, id}] = record
		return nil
	})
}

func (k *checking) differs(did syntax.DID, format string, args ...any) {
	k.Differences = append(k.Differences, did.String()+": "+fmt.Sprintf(format, args...))
}

// accounts compares all that an account has but its sessions.
func (k *checking) accounts(ctx context.Context) error {
	list, _, err := k.source.Accounts()
	if err != nil {
		return err
	}
	for _, a := range list {
		k.Accounts++
		now, ok := k.there[a.DID]
		if !ok {
			k.differs(a.DID, "it is not here: it was skipped, or deleted since")
			continue
		}
		if active := !a.TakenDown && a.DeactivatedAt.IsZero(); active != now.Active {
			k.differs(a.DID, "it was %s, and is %s", word(active), word(now.Active))
		}
		actor, err := k.source.Actor(ctx, a.DID)
		if err != nil {
			k.differs(a.DID, "the old repository cannot be read: %v", err)
			continue
		}
		err = k.compare(ctx, actor, now)
		if err == nil {
			err = k.compareBlobs(ctx, a.DID, actor)
		}
		_ = actor.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func word(active bool) string {
	if active {
		return "active"
	}
	return "not active"
}

// compare compares one account's repository.
func (k *checking) compare(ctx context.Context, actor takeover.Actor, now store.Inspected) error {
	did := now.DID
	root, err := actor.Root()
	if err != nil {
		k.differs(did, "the old repository cannot be read: %v", err)
		return ctx.Err()
	}
	records, err := actor.Records()
	if err != nil {
		k.differs(did, "the old records cannot be read: %v", err)
		return ctx.Err()
	}
	err = k.view.Repo(now.ID, func(rows repo.Rows) error {
		head := rows.Head()
		switch {
		case head.Rev < root.Rev:
			k.differs(did, "its repository is at revision %s, the old one at %s", head.Rev, root.Rev)
		case head.Rev > root.Rev:
			k.Newer++
		case !head.CID.Equals(root.CID):
			k.differs(did, "its repository is at commit %s, the old one at %s", head.CID, root.CID)
		case head.Records != int64(len(records)):
			// The table may lag behind the tree.
			if n, err := takeover.CountRecords(did, actor); err != nil || n != head.Records {
				k.differs(did, "it has %d records, the old one %d: %v", head.Records, n, err)
			} else {
				k.Same++
			}
		default:
			k.Same++
		}
		return nil
	})
	if err != nil {
		k.differs(did, "its repository: %v", err)
	}
	return ctx.Err()
}

// compareBlobs compares one account's blobs. One that is not here is a difference if a record
// here refers to it, or nothing was written since.
func (k *checking) compareBlobs(ctx context.Context, did syntax.DID, actor takeover.Actor) error {
	list, err := actor.Blobs()
	if err != nil {
		k.differs(did, "the old list of blobs cannot be read: %v", err)
		return ctx.Err()
	}
	for _, b := range list {
		k.Blobs.Old++
		name := blobName{did, b.CID}
		if k.blobs[name] {
			k.Blobs.Here++
			continue
		}
		there, err := k.original(ctx, b.Paths)
		record, wanted := k.wanted[name]
		switch {
		case err != nil:
			return err
		case !there:
			k.Blobs.Missing++
		case wanted:
			k.differs(did, "blob %s, which the record %s refers to, is not here, and the old server has its file", b.CID, record)
		case k.untouched:
			k.differs(did, "blob %s is not here, and the old server has its file", b.CID)
		default:
			k.Blobs.Gone++
		}
	}
	return ctx.Err()
}

// original reports whether the old server has a file of a blob at one of the paths.
func (k *checking) original(ctx context.Context, paths []string) (bool, error) {
	for _, path := range paths {
		if _, err := k.originals.Size(ctx, path); !errors.Is(err, takeover.ErrNoFile) {
			return err == nil, err
		}
	}
	return false, nil
}

// settling is how long a server that took over is used before it is suspicious that nobody went
// on with a session.
const settling = 10 * time.Minute

// inherited compares the sessions and grants that lived on the old server with those that live
// here.
func (k *checking) inherited(ctx context.Context, trusted []string, now time.Time) error {
	k.tokens = map[[sha256.Size]byte]store.InheritedToken{}
	here, err := k.view.Inherited(func(t store.InheritedToken) error { k.tokens[t.Hash] = t; return nil })
	if err != nil || here.Since.IsZero() {
		return err
	}
	if err := k.sessions(ctx, here, now); err != nil {
		return err
	}
	err = takeover.LiveGrants(ctx, k.source, trusted, here.Since, k.grant)
	slices.Sort(k.Differences)
	return err
}

// sessions compares those that a password opened.
func (k *checking) sessions(ctx context.Context, here store.Inherited, now time.Time) error {
	passwords, err := k.source.AppPasswords()
	if err != nil {
		return err
	}
	lost := map[syntax.DID]int{}
	err = takeover.LiveSessions(ctx, k.source, passwords, here.Since, func(did syntax.DID, token [sha256.Size]byte) error {
		if _, ok := k.there[did]; !ok {
			return nil
		}
		k.Sessions.Old++
		_, lives := k.tokens[token]
		switch {
		case lives:
			k.Sessions.Here++
		case k.untouched:
			lost[did]++
		default:
			k.Sessions.Ended++
		}
		return nil
	})
	if err != nil {
		return err
	}
	for did, n := range lost {
		k.differs(did, "%d of its sessions are not here", n)
	}
	k.Sessions.Refreshed, k.Sessions.Opened = here.Refreshed, here.Opened
	if k.Sessions.Old > 0 && here.Refreshed == 0 && here.Opened > 0 && now.Sub(here.First) >= settling {
		k.Warnings = append(k.Warnings, fmt.Sprintf("%d sessions were opened here since %s, "+
			"and not one of the %d that were taken over was refreshed: "+
			"if people must sign in again, PDS_JWT_SECRET is not the old server's",
			here.Opened, here.First.UTC().Format(time.RFC3339), k.Sessions.Old))
	}
	return nil
}

// grant compares what an OAuth client was granted.
func (k *checking) grant(old takeover.LiveGrant) error {
	if _, ok := k.there[old.DID]; !ok {
		return nil
	}
	k.Grants.Old++
	here, lives := k.tokens[old.Token]
	same := here.DID == old.DID && here.ClientID == old.ClientID && here.DPoPJKT == old.DPoPJKT
	switch {
	case lives && same:
		k.Grants.Here++
	case lives:
		k.differs(old.DID, "what it granted to %s belongs to %s of %s here, or is bound to another key", old.ClientID, here.ClientID, here.DID)
	case k.untouched:
		k.differs(old.DID, "what it granted to %s is not here", old.ClientID)
	default:
		k.Grants.Ended++
	}
	return nil
}
