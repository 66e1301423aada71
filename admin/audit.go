package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/request"
)

// operator names the command line as the actor.
const operator = "operator"

// action returns the audit entry of what the actor in ctx does now.
func (s *Service) action(ctx context.Context, what string, did syntax.DID, subject, details string) Action {
	a := actionAt(ctx, s.Now().UTC(), what)
	a.DID, a.Subject, a.Details = did, subject, details
	if note := account.NoteOf(ctx); note != "" {
		a.Details = strings.TrimSuffix("note "+quote(note)+", "+details, ", ")
	}
	return a
}

// actionAt returns the audit entry of what the actor in ctx does at a time.
func actionAt(ctx context.Context, at time.Time, what string) Action {
	client := request.ClientOf(ctx)
	return Action{At: at, Who: account.Acting(ctx), What: what, Network: client.Network().String(), UserAgent: client.UserAgent}
}

// maxQuoted bounds, in bytes, a foreign text in the audit log.
const maxQuoted = 200

// quote returns a foreign text as the audit log keeps it.
func quote(text string) string {
	if len(text) > maxQuoted {
		cut := maxQuoted
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	return strconv.Quote(text)
}

// AuditArgs select what `nestbox audit` prints. Account is one that exists, or
// the DID of one that is gone; Since is an RFC 3339 time. Either may be empty.
type AuditArgs struct {
	Account string `json:"account"`
	// Who names the actor, What the action; both whole.
	Who    string `json:"who"`
	What   string `json:"what"`
	Since  string `json:"since"`
	Before int64  `json:"before"`
}

// AuditLine is an action as lists show it.
type AuditLine struct {
	// ID is the Before of a page that begins behind it.
	ID        int64  `json:"id"`
	At        string `json:"at"`
	Who       string `json:"who"`
	What      string `json:"what"`
	Account   string `json:"account,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Details   string `json:"details,omitempty"`
	Network   string `json:"network,omitempty"`
	UserAgent string `json:"userAgent,omitempty"`
}

// AuditPage is one page of the audit log, the latest first; Next is the Before
// of the next one, 0 at the end.
type AuditPage struct {
	Actions []AuditLine `json:"actions"`
	Next    int64       `json:"next"`
}

func (s *Service) listAudit(ctx context.Context, a AuditArgs) (AuditPage, error) {
	f := AuditFilter{Who: a.Who, What: a.What, Before: a.Before, Limit: pageSize}
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	if a.Account != "" {
		var err error
		if f.DID, err = s.Subject(ctx, a.Account); err != nil {
			return AuditPage{}, err
		}
	}
	if a.Since != "" {
		var err error
		if f.Since, err = time.Parse(time.RFC3339, a.Since); err != nil {
			return AuditPage{}, fmt.Errorf("since: %w", err)
		}
	}
	actions, err := s.Store.Audit(ctx, f)
	if err != nil {
		return AuditPage{}, err
	}
	page := AuditPage{Actions: []AuditLine{}}
	for _, a := range actions {
		page.Actions = append(page.Actions, AuditLine{
			ID: a.ID, At: datetime(a.At), Who: a.Who, What: a.What, Account: a.DID.String(), Subject: a.Subject, Details: a.Details,
			Network: a.Network, UserAgent: a.UserAgent,
		})
	}
	if len(actions) == pageSize {
		page.Next = actions[pageSize-1].ID
	}
	return page, nil
}

// The arguments of commands about records and blobs that are taken down.
type (
	// ContentArgs name a record by its URI, or a blob by its account and CID.
	ContentArgs struct {
		URI     string `json:"uri"`
		Account string `json:"account"`
		Blob    string `json:"blob"`
		Applied bool   `json:"applied"`
		Ref     string `json:"ref"`
	}
	TakedownsArgs struct {
		Account string `json:"account"`
		After   string `json:"after"`
	}
)

// TakedownLine is a takedown as lists show it.
type TakedownLine struct {
	// URI is a record's, Blob a blob's CID; one of the two.
	URI  string `json:"uri,omitempty"`
	Blob string `json:"blob,omitempty"`
	DID  string `json:"did"`
	Ref  string `json:"ref,omitempty"`
	At   string `json:"at,omitempty"`
}

// TakedownPage is one page of takedowns; Next is the After of the next, empty at
// the end.
type TakedownPage struct {
	Takedowns []TakedownLine `json:"takedowns"`
	Next      string         `json:"next"`
}

// errURI: a record is named by at://, account, collection and key.
var errURI = errors.New("not the URI of a record: at://ACCOUNT/COLLECTION/KEY")

func (s *Service) setTakedown(ctx context.Context, a ContentArgs) (TakedownLine, error) {
	did, subject, err := s.subject(ctx, a)
	if err != nil {
		return TakedownLine{}, err
	}
	c, err := s.Store.Content(ctx, did, subject)
	if err != nil {
		return TakedownLine{}, err
	}
	t := Takedown{Subject: subject, Ref: a.Ref}
	if c.CID.Defined() {
		t.CID = c.CID.String()
	}
	if err := s.TakedownContent(ctx, did, t, a.Applied); err != nil {
		return TakedownLine{}, err
	}
	if c, err = s.Store.Content(ctx, did, subject); err != nil {
		return TakedownLine{}, err
	}
	if c.Takedown == nil {
		c.Takedown = &Takedown{Subject: subject}
	}
	return takedownLine(did, *c.Takedown), nil
}

func (s *Service) listTakedowns(ctx context.Context, a TakedownsArgs) (TakedownPage, error) {
	did, err := s.Subject(ctx, a.Account)
	if err != nil {
		return TakedownPage{}, err
	}
	list, err := s.Store.Takedowns(ctx, did, a.After, pageSize)
	if err != nil {
		return TakedownPage{}, err
	}
	page := TakedownPage{Takedowns: []TakedownLine{}}
	for _, t := range list {
		page.Takedowns = append(page.Takedowns, takedownLine(did, t))
	}
	if len(list) == pageSize {
		page.Next = list[pageSize-1].Subject
	}
	return page, nil
}

func takedownLine(did syntax.DID, t Takedown) TakedownLine {
	line := TakedownLine{DID: did.String(), Ref: t.Ref, At: datetime(t.At)}
	if strings.Contains(t.Subject, "/") {
		line.URI = "at://" + did.String() + "/" + t.Subject
	} else {
		line.Blob = t.Subject
	}
	return line
}
