package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/maypok86/otter/v2"

	"nestbox/account"
	"nestbox/repo"
)

const (
	getRecord       = "com.atproto.repo.getRecord"
	getFeed         = "app.bsky.feed.getFeed"
	getFeedSkeleton = "app.bsky.feed.getFeedSkeleton"
	// A feed's generator is known for knownFeed, and that there is no such feed for
	// unknownFeed.
	maxFeeds    = 10_000
	knownFeed   = 10 * time.Minute
	unknownFeed = time.Minute
	feedTime    = 5 * time.Second
	// maxRecordAnswer bounds a record with its envelope, in bytes.
	maxRecordAnswer = 2 << 20
)

// feedCache holds the DIDs of feed generators, by the target that was asked and the
// feed's URI.
type feedCache = *otter.Cache[string, knownGenerator]

// knownGenerator is which service makes a feed. did is empty if none does, and refused is
// then the error for the client.
type knownGenerator struct {
	did     string
	refused error
	at      time.Time
}

func newFeedCache() feedCache {
	return otter.Must(&otter.Options[string, knownGenerator]{MaximumSize: maxFeeds})
}

// generator returns the DID of the service that makes a feed.
func (s *Service) generator(ctx context.Context, to Target, feed string) (string, error) {
	uri, err := syntax.ParseATURI(feed)
	if err != nil || uri.Collection() == "" || uri.RecordKey() == "" {
		return "", invalid("feed must be the at-uri of a feed generator's record")
	}
	key, now := to.URL+" "+uri.String(), s.Now()
	if known, ok := s.feeds.GetIfPresent(key); ok {
		age := now.Sub(known.at)
		if known.did != "" && age < knownFeed || known.did == "" && age < unknownFeed {
			return known.did, known.refused
		}
	}
	did, err := s.findGenerator(ctx, to, uri)
	if e, refused := errors.AsType[*refusalError](err); refused && (e.name == "RecordNotFound" || e.name == "UnknownFeed") {
		// Others get it too, so nothing of this call is in it.
		err = &refusalError{status: http.StatusBadRequest, name: e.name, message: e.message}
		s.feeds.Set(key, knownGenerator{"", err, now})
	}
	if err == nil {
		s.feeds.Set(key, knownGenerator{did, nil, now})
	}
	return did, err
}

// findGenerator reads a feed's record: here, if its repository is here, or else at the
// target.
func (s *Service) findGenerator(ctx context.Context, to Target, uri syntax.ATURI) (string, error) {
	value, err := s.ownFeed(ctx, uri)
	if errors.Is(err, account.ErrNotFound) {
		value, err = s.foreignFeed(ctx, to, uri)
	}
	if err != nil {
		return "", err
	}
	var record struct {
		DID string `json:"did"`
	}
	if json.Unmarshal(value, &record) != nil || !isServiceDID(record.DID) {
		return "", &refusalError{status: http.StatusBadRequest, name: "UnknownFeed", message: "could not resolve feed did"}
	}
	return record.DID, nil
}

// ownFeed returns a feed's record of an account here: account.ErrNotFound if the account
// is elsewhere.
func (s *Service) ownFeed(ctx context.Context, uri syntax.ATURI) ([]byte, error) {
	a, err := s.find(ctx, uri.Authority())
	if err != nil {
		return nil, err
	}
	found, err := s.Repos.Own(ctx, a.ID, uri.Collection().String()+"/"+uri.RecordKey().String())
	if errors.Is(err, repo.ErrNoRecord) || errors.Is(err, repo.ErrNoRepo) || err == nil && a.Hidden() {
		return nil, &refusalError{status: http.StatusBadRequest, name: "RecordNotFound", message: "Could not locate record: " + uri.String()}
	}
	if err != nil {
		return nil, err
	}
	record, err := recordOf(found)
	return record.Value, err
}

// find returns an account here by its DID or handle.
func (s *Service) find(ctx context.Context, name syntax.AtIdentifier) (*account.Account, error) {
	if did, err := name.AsDID(); err == nil {
		return s.Accounts.ByDID(ctx, did)
	}
	handle, err := name.AsHandle()
	if err != nil {
		return nil, account.ErrNotFound
	}
	return s.Accounts.ByHandle(ctx, handle.Normalize())
}

// foreignFeed asks the target for a feed's record, with nothing of the client's.
func (s *Service) foreignFeed(ctx context.Context, to Target, uri syntax.ATURI) ([]byte, error) {
	within, cancel := context.WithTimeout(ctx, feedTime)
	defer cancel()
	query := url.Values{"repo": {uri.Authority().String()}, "collection": {uri.Collection().String()}, "rkey": {uri.RecordKey().String()}}
	question := &call{to: to, method: http.MethodGet, nsid: getRecord, query: query.Encode(), header: s.ownHeaders(), aside: true}
	body, err := s.ask(within, question, maxRecordAnswer)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return nil, late(err)
	}
	if err != nil {
		return nil, err
	}
	var found struct {
		Value jsontext.Value `json:"value"`
	}
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, failed(messageFailure, err)
	}
	return found.Value, nil
}
