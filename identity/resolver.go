package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/safehttp"
	"nestbox/ratelimit"
)

// Errors of Resolver, besides ErrNotRegistered, ErrDeactivated and ErrBusy. Any other error means that the
// network did not answer.
var (
	// ErrUnsupported: a DID method that the protocol does not use, or a did:web
	// with a path.
	ErrUnsupported = errors.New("DID cannot be resolved")
	// ErrHandleNotFound: the handle leads to no DID.
	ErrHandleNotFound = errors.New("handle does not resolve")
	// ErrHere: whether the handle is one of this server cannot be said.
	ErrHere = errors.New("look for handle here")
	// ErrHandleConflict: the handle leads to more than one DID.
	ErrHandleConflict = errors.New("handle resolves to more than one DID")
)

const (
	// lookupTimeout bounds one question to the network.
	lookupTimeout = 3 * time.Second
	// maxDocument and maxWellKnown bound answers, in bytes.
	maxDocument  = maxAnswer
	maxWellKnown = 2 << 10
	// cachedDocuments and cachedHandles bound the memory of answers, in bytes.
	cachedDocuments = 32 << 20
	cachedHandles   = 8 << 20
	// believed is how long an answer is not asked for again by a caller who may name
	// any identity: a host that many name is not asked at their pace.
	believed = 5 * time.Second
)

// documentTimes are those of the reference.
func documentTimes() cacheTimes {
	return cacheTimes{stale: time.Hour, gone: 24 * time.Hour, negative: time.Minute}
}

// handleTimes are shorter: a handle that moved is looked up by people at once.
func handleTimes() cacheTimes {
	return cacheTimes{stale: 10 * time.Minute, gone: 24 * time.Hour, negative: time.Minute}
}

// ResolverOptions are what a Resolver needs.
type ResolverOptions struct {
	// Directory is asked for did:plc.
	Directory *Directory
	// HTTP reaches hosts that strangers name: see internal/safehttp.
	HTTP *http.Client
	// DNS finds the TXT records of handles; Backup is asked where it finds none,
	// unless it is nil.
	DNS, Backup TXTLookup
	// Local returns the DID of a handle here. ours: only this server knows the
	// handle, so that nobody else is asked.
	Local func(ctx context.Context, h syntax.Handle) (did syntax.DID, ours bool, err error)
	// Limits counts the questions that a client network causes; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
}

// TXTLookup is what a Resolver needs of a net.Resolver.
type TXTLookup interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Resolver finds the documents of DIDs and the DIDs of handles
// (https://atproto.com/specs/did, https://atproto.com/specs/handle). Answers are
// kept: an older one is given while it is renewed. It is to be closed.
type Resolver struct {
	options   ResolverOptions
	work      *work
	documents *cache[*Document]
	handles   *cache[syntax.DID]
	why       purpose       // of questions to the network
	believed  time.Duration // how old an answer may be for Fresh
}

// forAnybody returns the same resolver for questions of callers who prove nothing.
func (r *Resolver) forAnybody() *Resolver { return r.forStrangers(forAnybody) }

// ForTokens returns the same resolver for finding the issuers that service tokens
// name. Its Fresh believes an answer that is a few seconds old.
func (r *Resolver) ForTokens() *Resolver { return r.forStrangers(forProof) }

func (r *Resolver) forStrangers(why purpose) *Resolver {
	theirs := *r
	theirs.why, theirs.believed = why, believed
	return &theirs
}

// NewResolver returns a Resolver with nothing in its caches.
func NewResolver(o ResolverOptions) *Resolver {
	r := &Resolver{options: o, work: newWork(o.Limits), why: forOwner}
	r.documents = newCache(cachedDocuments, func(d *Document) int {
		if d == nil {
			return 0
		}
		return d.size()
	}, &cache[*Document]{
		times: documentTimes(), now: o.Now, work: r.work,
		ask:     func(ctx context.Context, key string) (*Document, error) { return r.askDocument(ctx, syntax.DID(key)) },
		certain: []error{ErrNotRegistered},
	})
	r.handles = newCache(cachedHandles, func(d syntax.DID) int { return len(d) }, &cache[syntax.DID]{
		times: handleTimes(), now: o.Now, work: r.work,
		ask:     func(ctx context.Context, key string) (syntax.DID, error) { return r.askHandle(ctx, syntax.Handle(key)) },
		certain: []error{ErrHandleNotFound, ErrHandleConflict},
	})
	return r
}

// Close ends what is being looked up and waits for it.
func (r *Resolver) Close() { r.work.close() }

// DID returns the document of a DID: ErrNotRegistered, ErrDeactivated,
// ErrUnsupported, ErrBusy.
func (r *Resolver) DID(ctx context.Context, did syntax.DID) (*Document, error) {
	if err := supported(did); err != nil {
		return nil, err
	}
	return r.documents.get(ctx, did.String(), r.why)
}

// Fresh is DID that asks the network even if the document is known, and remembers the
// answer.
func (r *Resolver) Fresh(ctx context.Context, did syntax.DID) (*Document, error) {
	if err := supported(did); err != nil {
		return nil, err
	}
	return r.documents.renew(ctx, did.String(), r.why, r.believed)
}

// Keep remembers a document that a directory has taken from this server: what was
// known before is old.
func (r *Resolver) Keep(did syntax.DID, raw []byte) {
	if d, err := ParseDocument(did, raw); err == nil {
		r.documents.keep(did.String(), cached[*Document]{value: d, at: r.options.Now()})
	}
}

// Handle returns the DID that a handle leads to: ErrHandleNotFound,
// ErrHandleConflict, ErrBusy. Whether the DID's document names the handle is another
// question.
func (r *Resolver) Handle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	return r.handle(ctx, h, func(ctx context.Context, key string) (syntax.DID, error) { return r.handles.get(ctx, key, r.why) })
}

// FreshHandle is Handle that asks the network even if the answer is known.
func (r *Resolver) FreshHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	return r.handle(ctx, h, r.renewHandle)
}

func (r *Resolver) renewHandle(ctx context.Context, key string) (syntax.DID, error) {
	return r.handles.renew(ctx, key, r.why, r.believed)
}

// ProvenHandle is FreshHandle that takes nobody's word for a handle outside of this
// server's domains, its own neither: an account had it when it took it.
func (r *Resolver) ProvenHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	h = h.Normalize()
	did, ours, err := r.options.Local(ctx, h)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrHere, err)
	case ours && did != "":
		return did, nil
	case ours || !h.AllowedTLD() || h.IsInvalidHandle():
		return "", ErrHandleNotFound
	}
	return r.renewHandle(ctx, h.String())
}

func (r *Resolver) handle(ctx context.Context, h syntax.Handle, ask func(context.Context, string) (syntax.DID, error)) (syntax.DID, error) {
	h = h.Normalize()
	did, ours, err := r.options.Local(ctx, h)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrHere, err)
	case did != "":
		return did, nil
	case ours || !h.AllowedTLD() || h.IsInvalidHandle():
		return "", ErrHandleNotFound
	}
	return ask(ctx, h.String())
}

// Identity returns the document of a DID with its handle: handle.invalid where
// that does not lead back to the DID. Fresh asks the network whatever is known, also
// for a handle of an account here that is not of this server's domains.
func (r *Resolver) Identity(ctx context.Context, did syntax.DID, fresh bool) (*Document, syntax.Handle, error) {
	document, handle := r.DID, r.Handle
	if fresh {
		document, handle = r.Fresh, r.ProvenHandle
	}
	d, err := document(ctx, did)
	if err != nil {
		return nil, "", err
	}
	claimed := d.Handle()
	if claimed == "" {
		return d, syntax.HandleInvalid, nil
	}
	back, err := handle(ctx, claimed)
	if err != nil && (ctx.Err() != nil || errors.Is(err, ErrBusy)) {
		return nil, "", err
	}
	if err != nil || back != did {
		return d, syntax.HandleInvalid, nil //nolint:nilerr // whatever it is, the handle is not proven
	}
	return d, claimed, nil
}

func supported(did syntax.DID) error {
	switch did.Method() {
	case "plc":
		return nil
	case "web":
		_, err := webURL(did)
		return err
	default:
		return fmt.Errorf("%w: method %q", ErrUnsupported, did.Method())
	}
}

// webURL is where the document of a did:web is. A port is for localhost alone,
// which only development reaches.
func webURL(did syntax.DID) (string, error) {
	host := strings.ToLower(did.Identifier())
	if name, port, ok := strings.Cut(host, "%3a"); ok && name == "localhost" {
		return "http://" + name + ":" + port + "/.well-known/did.json", nil
	}
	if host == "localhost" {
		return "http://localhost/.well-known/did.json", nil
	}
	if h, err := syntax.ParseHandle(host); err != nil || h.String() != host { // the syntax of host names
		return "", fmt.Errorf("%w: %s names no host", ErrUnsupported, did)
	}
	return "https://" + host + "/.well-known/did.json", nil
}

func (r *Resolver) askDocument(ctx context.Context, did syntax.DID) (*Document, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var raw []byte
	var err error
	if did.Method() == "plc" {
		raw, err = r.options.Directory.Document(ctx, did)
	} else {
		raw, err = r.askWeb(ctx, did)
	}
	if err != nil {
		return nil, err
	}
	return ParseDocument(did, raw)
}

func (r *Resolver) askWeb(ctx context.Context, did syntax.DID) ([]byte, error) {
	url, err := webURL(did)
	if err != nil {
		return nil, err
	}
	status, raw, err := r.fetch(ctx, url, maxDocument)
	switch {
	case err != nil:
		return nil, err
	case status == http.StatusOK:
		return raw, nil
	case status == http.StatusNotFound || status == http.StatusGone:
		return nil, ErrNotRegistered
	default:
		return nil, fmt.Errorf("ask %s: status %d", url, status)
	}
}

func (r *Resolver) fetch(ctx context.Context, url string, limit int64) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // HTTP checks where it goes
	if err != nil {
		return 0, nil, fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := r.options.HTTP.Do(req) //nolint:bodyclose,gosec // ReadText closes; HTTP checks where it goes
	if err != nil {
		return 0, nil, err
	}
	body, err = safehttp.ReadText(resp, limit)
	if err != nil && resp.StatusCode == http.StatusOK {
		return 0, nil, fmt.Errorf("ask %s: %w", url, err)
	}
	return resp.StatusCode, body, nil
}

func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
