package schema

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/internal/safehttp"
)

const (
	// Collection is where repositories keep Lexicons, by NSID.
	Collection = "com.atproto.lexicon.schema"
	// findTimeout bounds all steps to a Lexicon together.
	findTimeout = 10 * time.Second
	// maxProof bounds, in bytes, the record with its proof.
	maxProof = 1 << 20
)

// TXTLookup looks up TXT records; *net.Resolver does.
type TXTLookup interface {
	LookupTXT(ctx context.Context, name string) ([]string, error)
}

// Host is where a repository is, and the key (did:key) that its commits are signed
// with.
type Host struct{ URL, Key string }

// Hosts finds the hosts of repositories.
type Hosts interface {
	// Host returns the host that the DID's document names. Fresh asks the network even
	// if the document is known.
	Host(ctx context.Context, did syntax.DID, fresh bool) (Host, error)
}

// Proven returns the record of a key (collection/rkey) from a CAR file that proves it
// to be in the repository of a DID, by a commit that the key (did:key) signed.
type Proven func(car []byte, did syntax.DID, signer, key string) (Record, error)

// Record is a record as its repository has it, and its CID.
type Record struct {
	Block []byte
	CID   string
}

// Own reads repositories of this server.
type Own interface {
	// LexiconRecord returns the Lexicon that the repository of a DID publishes under an
	// NSID. Here reports whether the repository is on this server; if it is and
	// publishes no such Lexicon, it returns ErrUnknown.
	LexiconRecord(ctx context.Context, did syntax.DID, nsid syntax.NSID) (r Record, here bool, err error)
}

// find gets a Lexicon from the network. Its error names the step that failed.
func (s *Service) find(ctx context.Context, nsid syntax.NSID) (*Lexicon, error) {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	now := s.Now()
	did, err := s.authority(ctx, nsid)
	if err != nil {
		return nil, timed(ctx, err)
	}
	record, err := s.record(ctx, did, nsid)
	if err != nil {
		return nil, timed(ctx, err)
	}
	document, err := parseRecord(nsid, record.Block)
	if err != nil {
		return nil, fmt.Errorf("record at://%s/%s/%s: %w", did, Collection, nsid, err)
	}
	return &Lexicon{NSID: nsid, DID: did, CID: record.CID, Document: document, FoundAt: now, CheckedAt: now, UsedAt: now}, nil
}

// timed says that the time was up, if it was.
func timed(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fail(err, "timed out after %s: %s", findTimeout, said(err))
	}
	return err
}

// authority returns the DID that publishes an NSID's Lexicons: by the TXT record of the
// domain that its NSID names, and by that of no other.
func (s *Service) authority(ctx context.Context, nsid syntax.NSID) (syntax.DID, error) {
	if s.Authority != "" {
		return s.Authority, nil
	}
	name := "_lexicon." + strings.ToLower(nsid.Authority())
	records, err := s.txt(ctx, name)
	if err != nil {
		return "", err
	}
	var values []string
	for _, r := range records {
		if value, ok := strings.CutPrefix(r, "did="); ok {
			values = append(values, value)
		}
	}
	if len(values) != 1 {
		return "", fmt.Errorf("DNS: %s has %d TXT records with did=, not one", name, len(values))
	}
	did, err := syntax.ParseDID(values[0])
	if err != nil {
		return "", fmt.Errorf("DNS: the TXT record did= of %s is not a DID", name)
	}
	return did, nil
}

// txt looks up TXT records, at the backup servers if the first ones fail or know
// nothing. If there are none, it returns none.
func (s *Service) txt(ctx context.Context, name string) ([]string, error) {
	servers := []TXTLookup{s.DNS}
	if s.Backup != nil {
		servers = append(servers, s.Backup)
	}
	var failed error
	for i, dns := range servers {
		within, cancel := context.WithTimeout(ctx, findTimeout/time.Duration(2*len(servers)-i))
		records, err := dns.LookupTXT(within, name+".") // the dot: search domains of this machine do not count
		cancel()
		if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
			continue
		}
		if err == nil && slices.ContainsFunc(records, func(r string) bool { return strings.HasPrefix(r, "did=") }) {
			return records, nil
		}
		failed = errors.Join(failed, err)
	}
	if failed != nil {
		return nil, fail(failed, "DNS: look up %s: %s", name, cmp.Or(safehttp.Reason(failed), "it failed"))
	}
	return nil, nil
}

// record gets the record with its proof. If the host or the key that is known does not
// do, the DID may have a newer document.
func (s *Service) record(ctx context.Context, did syntax.DID, nsid syntax.NSID) (Record, error) {
	r, here, err := s.Own.LexiconRecord(ctx, did, nsid)
	if here {
		if errors.Is(err, ErrUnknown) {
			return Record{}, fmt.Errorf("record at://%s/%s/%s: %w", did, Collection, nsid, err)
		}
		if err != nil {
			return Record{}, fail(err, "record at://%s/%s/%s: this server cannot read it now", did, Collection, nsid)
		}
		return r, nil
	}
	if err != nil {
		return Record{}, fail(err, "this server cannot say now whether it hosts %s", did)
	}
	known, err := s.Hosts.Host(ctx, did, false)
	if err != nil {
		return Record{}, fail(err, "DID document of %s: %s", did, cmp.Or(safehttp.Reason(err), "the DID does not resolve"))
	}
	r, err = s.recordAt(ctx, known, did, nsid)
	if err == nil || ctx.Err() != nil {
		return r, err
	}
	fresh, freshErr := s.Hosts.Host(ctx, did, true)
	if freshErr != nil || fresh == known {
		return Record{}, err
	}
	return s.recordAt(ctx, fresh, did, nsid)
}

func (s *Service) recordAt(ctx context.Context, host Host, did syntax.DID, nsid syntax.NSID) (Record, error) {
	if host.URL == "" || host.Key == "" {
		return Record{}, fmt.Errorf("DID document of %s: it names no host or no signing key", did)
	}
	query := url.Values{"did": {did.String()}, "collection": {Collection}, "rkey": {nsid.String()}}
	address := strings.TrimSuffix(host.URL, "/") + "/xrpc/com.atproto.sync.getRecord?" + query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return Record{}, fail(err, "host %s: it is not a URL", host.URL)
	}
	req.Header.Set("Accept", "application/vnd.ipld.car")
	resp, err := s.HTTP.Do(req) //nolint:bodyclose // ReadAll closes
	if err != nil {
		return Record{}, unreached(host, err)
	}
	car, err := safehttp.ReadAll(resp, maxProof)
	switch {
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound:
		return Record{}, fmt.Errorf("host %s: status %d for at://%s/%s/%s: the Lexicon is not published",
			host.URL, resp.StatusCode, did, Collection, nsid)
	case resp.StatusCode != http.StatusOK:
		return Record{}, fmt.Errorf("host %s: status %d", host.URL, resp.StatusCode)
	case err != nil:
		return Record{}, unreached(host, err)
	}
	r, err := s.Proven(car, did, host.Key, Collection+"/"+nsid.String())
	if err != nil {
		return Record{}, fmt.Errorf("host %s: proof of at://%s/%s/%s: %w", host.URL, did, Collection, nsid, err)
	}
	return r, nil
}

func unreached(host Host, err error) error {
	return fail(err, "host %s: %s", host.URL, cmp.Or(safehttp.Reason(err), "connection failed"))
}

// parseRecord returns a Lexicon's record as JSON.
func parseRecord(nsid syntax.NSID, block []byte) ([]byte, error) {
	v, err := dagcbor.Decode(block)
	if err != nil {
		return nil, err
	}
	record, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("it is not an object")
	}
	_, hasDefs := record["defs"].(map[string]any)
	switch {
	case record["$type"] != Collection:
		return nil, errors.New("its $type is not " + Collection)
	case record["lexicon"] != int64(1):
		return nil, errors.New("its lexicon is not 1")
	case record["id"] != nsid.String():
		return nil, errors.New("its id is another one")
	case !hasDefs:
		return nil, errors.New("it has no defs")
	}
	return dagcbor.ToJSON(v)
}
