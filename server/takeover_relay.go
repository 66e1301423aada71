package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/takeover"
)

// relay implements takeover.Relay: a host that answers com.atproto.sync.getRepo.
type relay struct {
	host   string
	client *http.Client
}

var _ takeover.Relay = (*relay)(nil)

// errRelay: see relayOf.
var errRelay = errors.New("write the URL of a host, like https://relay.example.com")

// FetchRepo fetches the repository of an account from a host that has a copy of it, as a CAR file.
// The caller closes it.
func FetchRepo(ctx context.Context, host string, did syntax.DID) (io.ReadCloser, error) {
	r, err := relayOf(host)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, errRelay
	}
	return r.Repo(ctx, did)
}

// relayOf returns the host that an operator named, nil if none is.
func relayOf(host string) (takeover.Relay, error) {
	if host == "" {
		return nil, nil //nolint:nilnil // nil is none
	}
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errRelay
	}
	// What it sends is bounded; how long that takes, the operator sees.
	return &relay{strings.TrimRight(host, "/"), &http.Client{Transport: http.DefaultTransport}}, nil
}

// String implements takeover.Relay.
func (r *relay) String() string { return r.host }

// Repo implements takeover.Relay.
func (r *relay) Repo(ctx context.Context, did syntax.DID) (io.ReadCloser, error) {
	asked := r.host + "/xrpc/com.atproto.sync.getRepo?did=" + url.QueryEscape(did.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, asked, nil)
	if err != nil {
		return nil, errRelay
	}
	req.Header.Set("Accept", "application/vnd.ipld.car")
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // as far as it comes
		return nil, errors.Join(fmt.Errorf("getRepo: status %d, %q", resp.StatusCode, said), resp.Body.Close())
	}
	return resp.Body, nil
}
