package firehose

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Asked is how the last request to be crawled went.
type Asked struct {
	// At is zero if there was none since the start.
	At time.Time
	// Error is empty if the relay accepted it.
	Error string
}

// HostStatus is what a relay knows of this server (com.atproto.sync.getHostStatus).
type HostStatus struct {
	// Status is the relay's word: active, idle, offline, throttled or banned.
	Status string `json:"status"`
	// Seq is the number of the last event that it has, Accounts how many accounts.
	Seq      int64 `json:"seq"`
	Accounts int64 `json:"accountCount"`
}

// Hosts returns the relays' URLs.
func (c *Crawler) Hosts() []string { return c.hosts }

// Last returns how the last request to a relay went.
func (c *Crawler) Last(host string) Asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[host]
}

// Ask asks one of the relays now to crawl this server: ErrUnlisted if it is none of Hosts.
func (c *Crawler) Ask(ctx context.Context, host string) error {
	if !slices.Contains(c.hosts, host) {
		return ErrUnlisted
	}
	return c.request(ctx, host)
}

// HostStatus asks a relay what it knows of this server: ErrUnseen.
func (c *Crawler) HostStatus(ctx context.Context, relay string) (out HostStatus, err error) {
	status, answer, err := c.call(ctx, http.MethodGet, strings.TrimSuffix(relay, "/")+
		"/xrpc/com.atproto.sync.getHostStatus?"+url.Values{"hostname": {c.hostname}}.Encode(), nil)
	if err != nil {
		return out, err
	}
	var refused struct {
		Error string `json:"error"`
	}
	err = json.Unmarshal(answer, &refused)
	switch {
	case refused.Error == "HostNotFound":
		return out, ErrUnseen
	case err == nil:
		err = json.Unmarshal(answer, &out)
	}
	if status != http.StatusOK || err != nil {
		return out, fmt.Errorf("ask relay: status %d: %.300q", status, answer)
	}
	return out, nil
}

// note keeps how a request went.
func (c *Crawler) note(host string, err error) {
	if c.Now == nil {
		return
	}
	a := Asked{At: c.Now().UTC()}
	if err != nil {
		a.Error = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked == nil {
		c.asked = map[string]Asked{}
	}
	c.asked[host] = a
}
