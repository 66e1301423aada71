package firehose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"nestbox/internal/pause"
)

const (
	// crawlEvery is the shortest time between two requests to be crawled.
	crawlEvery = 20 * time.Minute
	// crawlTimeout bounds one request to a relay.
	crawlTimeout = 15 * time.Second
	// maxRelayAnswer bounds how many bytes of a relay's answer are read.
	maxRelayAnswer = 64 << 10
)

// Errors of Crawler.LastSeen.
var (
	// ErrNoRelay: the name is not the URL of a relay.
	ErrNoRelay = errors.New("a relay is named by its URL, like https://relay.example.com")
	// ErrUnlisted: the server asks other relays.
	ErrUnlisted = errors.New("PDS_CRAWLERS does not name this relay: add it there, or use one that `nestbox relay status` lists")
	// ErrUnseen: the relay has no number of this server.
	ErrUnseen = errors.New("the relay does not know this server's stream")
)

// Crawler tells relays that this server has news
// (com.atproto.sync.requestCrawl), and asks them what they have seen of it.
type Crawler struct {
	// Now dates what Last returns; if it is nil, nothing is kept for that.
	Now func() time.Time

	mu    sync.Mutex
	asked map[string]Asked // by host

	hosts    []string
	hostname string
	client   *http.Client
	logger   *slog.Logger
	news     chan struct{}
}

// NewCrawler returns a crawler for the server with the public name hostname. hosts
// are the relays' URLs; without any it does nothing.
func NewCrawler(hosts []string, hostname string, client *http.Client, logger *slog.Logger) *Crawler {
	return &Crawler{hosts: hosts, hostname: hostname, client: client, logger: logger, news: make(chan struct{}, 1)}
}

// Notify notes that there is news. It does not block.
func (c *Crawler) Notify() {
	select {
	case c.news <- struct{}{}:
	default: // it is noted already
	}
}

// Run tells the relays when there is news, at most every 20 minutes, until ctx
// ends. If a request failed, all relays are asked again then.
func (c *Crawler) Run(ctx context.Context) {
	if len(c.hosts) == 0 {
		return
	}
	for {
		select {
		case <-c.news:
		case <-ctx.Done():
			return
		}
		for _, host := range c.hosts {
			if err := c.request(ctx, host); err != nil && ctx.Err() == nil {
				c.logger.LogAttrs(ctx, slog.LevelWarn, "request to be crawled failed", slog.String("relay", host), slog.String("cause", err.Error()))
				c.Notify()
			}
		}
		if !pause.For(ctx, crawlEvery) {
			return
		}
	}
}

func (c *Crawler) request(ctx context.Context, host string) (err error) {
	defer func() { c.note(host, err) }()
	body, err := json.Marshal(map[string]string{"hostname": c.hostname})
	if err != nil {
		return fmt.Errorf("encode hostname: %w", err)
	}
	status, answer, err := c.call(ctx, http.MethodPost, strings.TrimSuffix(host, "/")+"/xrpc/com.atproto.sync.requestCrawl", body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %.300q", status, answer)
	}
	return nil
}

// LastSeen asks a relay for the number of the last event that it has from this server
// (com.atproto.sync.getHostStatus). It may have seen more since. Errors: ErrNoRelay,
// ErrUnseen.
func (c *Crawler) LastSeen(ctx context.Context, relay string) (int64, error) {
	if u, err := url.Parse(relay); err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return 0, ErrNoRelay
	}
	status, answer, err := c.call(ctx, http.MethodGet, strings.TrimSuffix(relay, "/")+
		"/xrpc/com.atproto.sync.getHostStatus?"+url.Values{"hostname": {c.hostname}}.Encode(), nil)
	if err != nil {
		return 0, err
	}
	var out struct {
		Error string `json:"error"`
		Seq   *int64 `json:"seq"`
	}
	err = json.Unmarshal(answer, &out)
	switch {
	case out.Error == "HostNotFound", status == http.StatusOK && err == nil && out.Seq == nil:
		return 0, ErrUnseen
	case status != http.StatusOK || err != nil || *out.Seq < 0:
		return 0, fmt.Errorf("ask relay: status %d: %.300q", status, answer)
	default:
		return *out.Seq, nil
	}
}

// call makes one request and reads a bounded answer.
func (c *Crawler) call(ctx context.Context, method, target string, body []byte) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, crawlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, nil, fmt.Errorf("ask relay: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("ask relay: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if answer, err = io.ReadAll(io.LimitReader(resp.Body, maxRelayAnswer)); err != nil {
		return 0, nil, fmt.Errorf("ask relay: %w", err)
	}
	return resp.StatusCode, answer, nil
}
