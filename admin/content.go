package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
)

// Shown is a record or a blob as the admin page shows it, taken down or not.
type Shown struct {
	DID syntax.DID
	// Subject is collection/rkey, or a blob's CID; CID the present version, empty if the
	// account does not have it.
	Subject, CID string
	// Text is a record as JSON.
	Text string
	// MimeType and Size are a blob's.
	MimeType string
	Size     int64
	Takedown *Takedown
}

// IsRecord reports whether it is a record.
func (s *Shown) IsRecord() bool { return strings.Contains(s.Subject, "/") }

// subject returns what ContentArgs name: the DID, and how the store names the part of it.
func (s *Service) subject(ctx context.Context, a ContentArgs) (did syntax.DID, subject string, err error) {
	who := a.Account
	if a.Blob != "" {
		id, err := dagcbor.ParseCID(a.Blob)
		if err != nil {
			return "", "", fmt.Errorf("%q: not a CID: %w", a.Blob, err)
		}
		subject = id.String()
	} else {
		uri, err := syntax.ParseATURI(a.URI)
		if err != nil || uri.Collection() == "" || uri.RecordKey() == "" {
			return "", "", fmt.Errorf("%q: %w", a.URI, errURI)
		}
		who, subject = uri.Authority().String(), uri.Collection().String()+"/"+uri.RecordKey().String()
	}
	did, err = s.Subject(ctx, who)
	return did, subject, err
}

// ShowContent returns the record or the blob that ContentArgs name; Applied and Ref do not
// count.
func (s *Service) ShowContent(ctx context.Context, a ContentArgs) (Shown, error) {
	did, subject, err := s.subject(ctx, a)
	if err != nil {
		return Shown{}, err
	}
	c, err := s.Store.Content(ctx, did, subject)
	if err != nil {
		return Shown{}, err
	}
	out := Shown{DID: did, Subject: subject, Takedown: c.Takedown}
	if !c.CID.Defined() {
		return out, nil
	}
	out.CID = c.CID.String()
	acc, err := s.Accounts.ByDID(ctx, did)
	if isUnknown(err) {
		return out, nil
	}
	if err != nil {
		return Shown{}, err
	}
	if !out.IsRecord() {
		b, err := s.Blobs.Get(ctx, acc.ID, c.CID)
		if out.Takedown != nil && errors.Is(err, blob.ErrNotFound) {
			return out, nil // the store gives nothing of it out, and it can be lifted
		}
		out.MimeType, out.Size = b.MimeType, b.Size
		return out, err
	}
	err = s.Repos.Store.View(ctx, acc.ID, func(v repo.View) error {
		r, err := v.Record(subject)
		if err != nil {
			return err
		}
		raw, err := dagcbor.AppendLooseJSON(nil, r.Block)
		var pretty bytes.Buffer
		if err == nil {
			err = json.Indent(&pretty, raw, "", "  ")
		}
		out.Text = pretty.String()
		return err
	})
	if errors.Is(err, repo.ErrNoRecord) || errors.Is(err, repo.ErrNoRepo) {
		out.CID, err = "", nil // deleted meanwhile
	}
	return out, err
}

// ErrNoPicture: it is no blob that is shown as a picture.
var ErrNoPicture = errors.New("not a picture that can be shown")

// maxPicture bounds, in bytes, a picture that is shown.
const maxPicture = 20 << 20

// pictures are the types of pictures that are shown: none can hold a script.
func pictures() []string {
	return []string{"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"}
}

// IsPicture reports whether it is a blob that Picture shows.
func (s *Shown) IsPicture() bool {
	return s.CID != "" && !s.IsRecord() && s.Size <= maxPicture && slices.Contains(pictures(), s.MimeType)
}

// Picture returns a blob that is a picture, taken down or not, and its content, which the
// caller closes: ErrNoPicture.
func (s *Service) Picture(ctx context.Context, a ContentArgs) (blob.Blob, blob.File, error) {
	shown, err := s.ShowContent(ctx, a)
	if err != nil {
		return blob.Blob{}, nil, err
	}
	if !shown.IsPicture() {
		return blob.Blob{}, nil, ErrNoPicture
	}
	acc, err := s.Accounts.ByDID(ctx, shown.DID)
	if err != nil {
		return blob.Blob{}, nil, err
	}
	id, err := dagcbor.ParseCID(shown.CID)
	if err != nil {
		return blob.Blob{}, nil, err
	}
	return s.OpenBlob(ctx, acc.ID, id)
}
