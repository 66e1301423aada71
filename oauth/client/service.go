package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/maypok86/otter/v2"

	"nestbox/internal/gate"
	"nestbox/internal/pause"
	"nestbox/oauth/jose"
	"nestbox/ratelimit"
)

// Purpose is what a client is loaded for: it decides for how long an old document counts
// while the client's host is down.
type Purpose int

const (
	// ForRequest: somebody asks for access, or redeems a code.
	ForRequest Purpose = iota
	// ForSession: a session that is alive is refreshed or ended. It is never refused for the
	// state of the client's host.
	ForSession
)

// How long a document counts while it cannot be fetched.
const (
	staleRequest      = 24 * time.Hour
	stalePublic       = 7 * 24 * time.Hour
	staleConfidential = 24 * time.Hour // its keys
)

const (
	// failureLife is how long a failure is not tried again, so that a developer who mends a
	// document sees it.
	failureLife = 10 * time.Second
	// newest is the age from which a document is fetched again before it refuses anything.
	newest = 10 * time.Second
	// KeyGrace is how long a key may be missing before its sessions end: an hour forgives a
	// deployment that went wrong.
	KeyGrace = time.Hour
	// unused is after what time a client is forgotten that nobody asks for.
	unused = 30 * 24 * time.Hour
	// cachedDocuments bounds the memory of documents, in bytes.
	cachedDocuments = 16 << 20
)

// Options are what a Service needs.
type Options struct {
	Store Store
	// HTTP fetches documents: see the function of that name.
	HTTP *http.Client
	// Issuer is the authorization server's own, which assertions must name.
	Issuer string
	// Trusted are the client_ids of PDS_OAUTH_TRUSTED_CLIENTS.
	Trusted []string
	// Dev allows clients on this machine.
	Dev bool
	// Limits counts the fetches that a client network causes; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
	Log    *slog.Logger
}

// Service loads clients. It is to be closed.
type Service struct {
	Options

	ctx     context.Context //nolint:containedctx // of fetches, which Close ends
	stop    context.CancelFunc
	known   *otter.Cache[string, *known]
	flights gate.Flights[string, *known] // by client_id
	places  gate.Places[string]
	logos   logos
	used    assertions
}

// known is what is known of a client; it is not changed.
type known struct {
	client *Client // nil if nothing that is right was ever fetched
	fresh  time.Time
	failed time.Time // zero if the last fetch succeeded
	fault  *fault
	size   int // bytes
}

// New returns a Service.
func New(o Options) *Service {
	s := &Service{Options: o}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.known = otter.Must(&otter.Options[string, *known]{
		MaximumWeight: cachedDocuments,
		Weigher: func(key string, k *known) uint32 {
			const overhead = 1000                       // bytes of an entry beside its texts, about
			return uint32(len(key) + k.size + overhead) //nolint:gosec // documents are bounded
		},
	})
	return s
}

// Close ends the fetches that are on their way, and waits for them.
func (s *Service) Close() {
	s.stop()
	s.flights.Close()
	s.logos.flights.Close()
}

// Refetch fetches a client's document, however new the present one is. Errors: *Error,
// ErrUnavailable, request.ErrTooMany.
func (s *Service) Refetch(ctx context.Context, id string) error {
	if _, ok := isLoopbackID(id); ok {
		return nil // it has none
	}
	u, err := parseID(id, s.Dev)
	if err != nil {
		return err
	}
	k, err := s.fetch(ctx, id, u, func(*known) bool { return false })
	if err != nil {
		return err
	}
	if k.fault != nil {
		return k.fault
	}
	return nil
}

// IsTrusted reports whether the operator named a client in PDS_OAUTH_TRUSTED_CLIENTS.
func (s *Service) IsTrusted(id string) bool { return slices.Contains(s.Trusted, id) }

// Load returns the client of a client_id. Errors: *Error, ErrUnavailable,
// request.ErrTooMany.
func (s *Service) Load(ctx context.Context, id string, why Purpose) (*Client, error) {
	if query, ok := isLoopbackID(id); ok {
		return loopbackClient(id, query)
	}
	u, err := parseID(id, s.Dev)
	if err != nil {
		return nil, err
	}
	k, err := s.look(ctx, id, u)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	does := func(k *known) bool {
		return k.failedLately(now) || k.client != nil && now.Before(k.fresh) && (k.fault == nil || !k.fault.invalid)
	}
	if !does(k) {
		fetched, err := s.fetch(ctx, id, u, does)
		if err != nil && k.client == nil {
			return nil, err
		}
		if err == nil {
			k = fetched
		}
	}
	return k.answer(id, why, now)
}

// failedLately reports whether the last fetch failed, so that none is due yet.
func (k *known) failedLately(now time.Time) bool { return now.Sub(k.failed) < failureLife }

// answer decides whether what is known counts, if need be without a document of today.
func (k *known) answer(id string, why Purpose, now time.Time) (*Client, error) {
	if k.fault != nil && why == ForRequest && (k.client == nil || k.fault.invalid) {
		return nil, refuse(k.fault.code, "Unable to obtain client metadata for '%.300s': %s", id, k.fault.message)
	}
	if k.client != nil && (now.Before(k.fresh) || now.Sub(k.client.Fetched) <= staleLife(k.client, why)) {
		return k.client, nil
	}
	if k.fault != nil {
		return nil, fmt.Errorf("%w: %s: %s", ErrUnavailable, id, k.fault.message)
	}
	return nil, fmt.Errorf("%w: %s", ErrUnavailable, id)
}

func staleLife(c *Client, why Purpose) time.Duration {
	switch {
	case why == ForRequest:
		return staleRequest
	case c.Confidential():
		return staleConfidential
	default:
		return stalePublic
	}
}

// With loads a client and checks it. If check refuses a client because of what its document
// does not say, the document is fetched once more, unless it is new, and checked again: a
// refusal is never based on an old one.
func (s *Service) With(ctx context.Context, id string, why Purpose, check func(*Client) error) (*Client, error) {
	c, err := s.Load(ctx, id, why)
	if err != nil {
		return nil, err
	}
	if err = check(c); err == nil {
		return c, nil
	}
	newer, ok, loadErr := s.newer(ctx, c, why)
	if loadErr != nil {
		return nil, loadErr
	}
	if !ok {
		return nil, err
	}
	if err := check(newer); err != nil {
		return nil, err
	}
	return newer, nil
}

// newer fetches a client's document again, if it is not new, and reports whether it did.
// If it cannot be fetched: ErrUnavailable.
func (s *Service) newer(ctx context.Context, c *Client, why Purpose) (*Client, bool, error) {
	now := s.Now()
	if c.Loopback || now.Sub(c.Fetched) <= newest {
		return c, false, nil
	}
	k, err := s.look(ctx, c.ID, c.URL)
	if err != nil {
		return nil, false, err
	}
	does := func(k *known) bool {
		return k.failedLately(now) || k.client != nil && now.Sub(k.client.Fetched) <= newest
	}
	if !does(k) {
		if k, err = s.fetch(ctx, c.ID, c.URL, does); err != nil {
			return nil, false, err
		}
	}
	if k.fault != nil {
		if k.fault.invalid && why == ForRequest {
			_, err := k.answer(c.ID, why, now)
			return nil, false, err
		}
		return nil, false, fmt.Errorf("%w: %s: %s", ErrUnavailable, c.ID, k.fault.message)
	}
	return k.client, true, nil
}

// look returns what is known of a client without asking its host.
func (s *Service) look(ctx context.Context, id string, u *url.URL) (*known, error) {
	if k, ok := s.known.GetIfPresent(id); ok {
		return k, nil
	}
	kept, err := s.Store.Client(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return &known{}, nil
	case err != nil:
		return nil, fmt.Errorf("look for client: %w", err)
	}
	k := &known{size: len(kept.Document) + len(kept.KeySet)}
	if kept.Document != nil {
		// The rules may be another version's: what they refuse is fetched again.
		if c, err := s.read(u, id, kept.Document, kept.KeySet); err == nil {
			c.Fetched, k.client, k.fresh = kept.Fetched, c, kept.Fresh
		}
	}
	if kept.Error != "" {
		k.failed, k.fault = kept.Failed, faultf("%s", kept.Error)
	}
	s.known.SetIfAbsent(id, k)
	return k, nil
}

// read makes a client of what was fetched.
func (s *Service) read(u *url.URL, id string, document, keySet []byte) (*Client, error) {
	c, err := readDocument(u, id, document, s.Dev)
	if err != nil {
		return nil, err
	}
	c.Trusted = s.IsTrusted(id)
	if c.keySetURI != "" && keySet != nil {
		keys, rule := readKeys(keySet, c.Alg)
		if rule != "" {
			return nil, refuse(CodeInvalidMetadata, "jwks_uri: %s", rule)
		}
		c.keys = keys
	}
	return c, nil
}

// obtain fetches a client's document, and its keys, and keeps them. What it returns may be
// a failure; its error means that it could not be kept.
func (s *Service) obtain(ctx context.Context, id string, u *url.URL) (*known, error) {
	before, err := s.look(ctx, id, u)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	kept, c, f := s.get(ctx, id, u, now)
	if f != nil {
		s.Log.LogAttrs(ctx, slog.LevelInfo, "client metadata not obtained", slog.String("client_id", id),
			slog.String("cause", Printable(f.Error())))
		k := &known{client: before.client, fresh: before.fresh, failed: s.Now(), fault: f, size: before.size}
		return k, s.keepFailure(ctx, id, k)
	}
	var present, removed []string
	for _, key := range c.keys {
		present = append(present, key.Thumbprint)
	}
	if before.client != nil {
		for _, key := range before.client.keys {
			if !c.HasKey(key.Thumbprint) {
				removed = append(removed, key.Thumbprint)
			}
		}
	}
	if err := s.Store.Keep(ctx, kept, present, removed); err != nil {
		return nil, fmt.Errorf("keep client: %w", err)
	}
	k := &known{client: c, fresh: kept.Fresh, size: len(kept.Document) + len(kept.KeySet)}
	s.known.Set(id, k)
	return k, nil
}

// get fetches what a client consists of.
func (s *Service) get(ctx context.Context, id string, u *url.URL, now time.Time) (Kept, *Client, *fault) {
	document, fresh, f := get(ctx, s.HTTP, id, now)
	if f != nil {
		return Kept{}, nil, f
	}
	kept := Kept{ID: id, Document: document, Fetched: now, Fresh: fresh}
	c, err := s.read(u, id, document, nil)
	if err == nil && c.keySetURI != "" {
		set, setFresh, f := get(ctx, s.HTTP, c.keySetURI, now)
		if f != nil {
			f.message = "jwks_uri: " + f.message
			return Kept{}, nil, f
		}
		kept.KeySet = set
		if setFresh.Before(fresh) {
			kept.Fresh = setFresh
		}
		c, err = s.read(u, id, document, set)
	}
	if broken, ok := errors.AsType[*Error](err); ok {
		return Kept{}, nil, &fault{message: broken.Message, code: broken.Code, invalid: true}
	}
	c.Fetched = now
	return kept, c, nil
}

// keepFailure stores that a fetch failed, beside what is kept.
func (s *Service) keepFailure(ctx context.Context, id string, k *known) error {
	s.known.Set(id, k)
	if k.client == nil {
		return nil // strangers name hosts that have never answered
	}
	kept, err := s.Store.Client(ctx, id)
	if err != nil {
		return fmt.Errorf("look for client: %w", err)
	}
	kept.Failed, kept.Error = k.failed, Printable(k.fault.message)
	if err := s.Store.Keep(ctx, kept, nil, nil); err != nil {
		return fmt.Errorf("keep client: %w", err)
	}
	return nil
}

// KeyMissing notes that a session's key is not in its client's set, which was looked at just
// now, and reports since when that is known. After KeyGrace the sessions of the key end.
func (s *Service) KeyMissing(ctx context.Context, c *Client, thumbprint string) (since time.Time, err error) {
	return s.Store.Remove(ctx, RemovedKey{ClientID: c.ID, Thumbprint: thumbprint, Since: s.Now()})
}

// removedAtOnce is how many keys RemovedKeys reads at a time.
const removedAtOnce = 100

// RemovedKeys calls end for each key that its client's set lacks since KeyGrace or longer,
// and still lacks. It looks at the set again if it did not since.
func (s *Service) RemovedKeys(ctx context.Context, end func(RemovedKey) error) error {
	var last RemovedKey
	for {
		keys, err := s.Store.Removed(ctx, s.Now().Add(-KeyGrace), last, removedAtOnce)
		if err != nil {
			return fmt.Errorf("list removed keys: %w", err)
		}
		for _, k := range keys {
			last = k
			c, err := s.Load(ctx, k.ClientID, ForSession)
			if err == nil && c.Fetched.Before(k.Since.Add(KeyGrace)) {
				c, _, err = s.newer(ctx, c, ForSession)
			}
			if err != nil || c.HasKey(k.Thumbprint) {
				continue // nothing is known for certain
			}
			if err := end(k); err != nil {
				return err
			}
		}
		if len(keys) < removedAtOnce {
			return nil
		}
	}
}

const (
	// forgottenAtOnce is how many clients are forgotten in one transaction.
	forgottenAtOnce = 500
	// maxKept is how many are kept: strangers can make hosts that introduce any number.
	maxKept = 10_000
)

// Run forgets clients that nobody has asked for in a long time, or for longer than for
// maxKept others, hourly, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	for pause.For(ctx, time.Hour) {
		for {
			n, err := s.Store.Forget(ctx, s.Now().Add(-unused), maxKept, forgottenAtOnce)
			if err != nil {
				s.Log.LogAttrs(ctx, slog.LevelWarn, "forgetting OAuth clients failed", slog.String("cause", err.Error()))
			}
			if err != nil || n < forgottenAtOnce {
				break
			}
		}
	}
}

// keyOf returns the key of a kid.
func (c *Client) keyOf(kid string) *jose.Key {
	for _, k := range c.keys {
		if k.ID == kid {
			return k
		}
	}
	return nil
}
