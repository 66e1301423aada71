package admin

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/session"
)

// ClientUse is an OAuth client with sessions here.
type ClientUse struct {
	ID                 string
	Sessions, Accounts int64
	// UsedAt is the last call or refresh of any of them.
	UsedAt time.Time
	// FetchedAt is when its document was last fetched, FailedAt when that last failed, with
	// Error; zero for never.
	FetchedAt, FailedAt time.Time
	Error               string
}

// Program is a program that signed in with passwords, by its User-Agent.
type Program struct {
	UserAgent string
	Sessions  int64
}

// HeldSession is a session by its number and account.
type HeldSession struct {
	ID  int64
	DID syntax.DID
}

// ClientStore is what the admin page reads of clients. It changes nothing.
type ClientStore interface {
	// Clients returns up to limit OAuth clients that have sessions, those with the most first.
	Clients(ctx context.Context, limit int) ([]ClientUse, error)
	// Programs returns up to limit programs of other sessions, those with the most first.
	Programs(ctx context.Context, limit int) ([]Program, error)
	// ClientSessions returns up to limit sessions of an OAuth client with an ID above after,
	// by ID.
	ClientSessions(ctx context.Context, clientID string, after int64, limit int) ([]HeldSession, error)
}

// ClientLine is an OAuth client as lists show it.
type ClientLine struct {
	ClientID  string `json:"clientId"`
	Sessions  int64  `json:"sessions"`
	Accounts  int64  `json:"accounts"`
	UsedAt    string `json:"usedAt,omitzero"`
	FetchedAt string `json:"fetchedAt,omitzero"`
	FailedAt  string `json:"failedAt,omitzero"`
	Error     string `json:"error,omitzero"`
	// Trusted: PDS_OAUTH_TRUSTED_CLIENTS names it.
	Trusted bool `json:"trusted,omitzero"`
}

// ClientArgs name an OAuth client by its client_id.
type ClientArgs struct {
	ClientID string `json:"clientId"`
}

// clientsShown is how many clients are listed.
const clientsShown = 100

func (s *Service) listClients(ctx context.Context, _ Done) ([]ClientLine, error) {
	found, err := s.Views.Clients(ctx, clientsShown)
	if err != nil {
		return nil, err
	}
	lines := []ClientLine{}
	for _, c := range found {
		lines = append(lines, ClientLine{
			c.ID, c.Sessions, c.Accounts, datetime(c.UsedAt), datetime(c.FetchedAt), datetime(c.FailedAt), c.Error, s.Clients.IsTrusted(c.ID),
		})
	}
	return lines, nil
}

// fetchClient fetches the document of an OAuth client again.
func (s *Service) fetchClient(ctx context.Context, a ClientArgs) (Done, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionClientFetched, "", a.ClientID, "")); err != nil {
		return Done{}, err
	}
	return Done{}, s.Clients.Refetch(ctx, a.ClientID)
}

// endClient ends every session of an OAuth client. Those that open meanwhile may stay.
func (s *Service) endClient(ctx context.Context, a ClientArgs) (Ended, error) {
	if err := s.Store.Note(ctx, s.action(ctx, ActionClientEnded, "", a.ClientID, "")); err != nil {
		return Ended{}, err
	}
	ended := Ended{}
	for after := int64(0); ; {
		held, err := s.Views.ClientSessions(ctx, a.ClientID, after, pageSize)
		if err != nil {
			return ended, err
		}
		for _, h := range held {
			after = h.ID
			err := s.Sessions.Revoke(ctx, h.DID, h.ID, account.ActorAdmin)
			if errors.Is(err, session.ErrUnknown) {
				continue // it has ended meanwhile
			}
			if err != nil {
				return ended, err
			}
			ended.Sessions++
		}
		if len(held) < pageSize {
			return ended, nil
		}
	}
}
