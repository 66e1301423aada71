package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
)

// upstreamName is the name of the server that stands for the AppView.
const upstreamName = "upstream"

// The calls that are passed on. The upstream answers getTimeline with the revision
// that its parameter algorithm has, as the newest one that it has seen.
const (
	plainName    = "getFeedGenerators"
	plainCall    = "app.bsky.feed.getFeedGenerators?feeds=at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.generator/whats-hot"
	timelineName = "getTimeline"
	timelineCall = "app.bsky.feed.getTimeline?limit=50&algorithm="
	largeCall    = "app.bsky.feed.searchPosts?q=nestbox"
)

// The sizes of the upstream's answers, in bytes.
const (
	usualSize = 49_000
	largeSize = 5_000_000
)

// appView is what the upstream answers, by NSID.
type appView map[string]body

// body is an answer as it is, and compressed.
type body struct{ plain, gzipped []byte }

// newAppView returns answers that are always the same.
func newAppView() appView {
	f := &fake{Rand: rand.New(rand.NewPCG(1, 2)), at: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
	return appView{
		nsidOf(plainCall):    compressed(listOf("feeds", usualSize, f.generator)),
		nsidOf(timelineCall): compressed(listOf("feed", usualSize, func() []byte { return fmt.Appendf(nil, `{"post":%s}`, f.post()) })),
		nsidOf(largeCall):    {plain: listOf("posts", largeSize, f.post)},
	}
}

func nsidOf(call string) string {
	nsid, _, _ := strings.Cut(call, "?")
	return nsid
}

func compressed(plain []byte) body {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(plain) // a buffer takes everything
	_ = w.Close()
	return body{plain, packed.Bytes()}
}

// listOf returns an object with a list of items, so many that it has the size.
func listOf(member string, size int, item func() []byte) []byte {
	b := []byte(`{"cursor":"2026-11-01T00:00:00.000Z","` + member + `":[`)
	for len(b) < size-500 { // an item is twice as long
		b = append(append(b, item()...), ',')
	}
	b[len(b)-1] = ']'
	return append(b, '}')
}

// fake makes up what answers have in them: valid by its Lexicon, and about as compressible
// as what the AppView sends.
type fake struct {
	*rand.Rand

	at     time.Time // of the last post
	people [][]byte
}

func (f *fake) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(f.Uint32())
	}
	return b
}

func (f *fake) did() string {
	return "did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(f.bytes(15)))
}

func (f *fake) cid() string { return dagcbor.CID(f.bytes(8)).String() }

func (f *fake) words(n int) string {
	all := strings.Fields("what is on the mind of people when they write about weather music work food cats and everything else under the sun")
	var b strings.Builder
	for range n {
		b.WriteString(all[f.IntN(len(all))] + " ")
	}
	return strings.TrimSpace(b.String())
}

// person returns one of twenty: people post, and make feeds, more than once.
func (f *fake) person() []byte {
	if len(f.people) == 20 {
		return f.people[f.IntN(len(f.people))]
	}
	did := f.did()
	p := fmt.Appendf(nil, `{"did":"%s","handle":"%s.bsky.social","displayName":"%s",`+
		`"avatar":"https://cdn.bsky.app/img/avatar/plain/%s/%s@jpeg",`+
		`"associated":{"chat":{"allowIncoming":"following"}},"viewer":{"muted":false,"blockedBy":false},"labels":[],`+
		`"createdAt":"2024-10-20T09:47:43.102Z"}`,
		did, strings.ReplaceAll(f.words(2), " ", "-"), f.words(2), did, f.cid())
	f.people = append(f.people, p)
	return p
}

// post returns a post that is a minute older than the last.
func (f *fake) post() []byte {
	f.at = f.at.Add(-time.Minute)
	at, by := f.at.Format("2006-01-02T15:04:05.000Z"), f.person()
	return fmt.Appendf(nil, `{"uri":"at://%s/app.bsky.feed.post/%s","cid":"%s","author":%s,`+
		`"record":{"$type":"app.bsky.feed.post","createdAt":"%s","langs":["en"],"text":"%s"},`+
		`"bookmarkCount":0,"replyCount":%d,"repostCount":%d,"likeCount":%d,"quoteCount":0,"indexedAt":"%s",`+
		`"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false},"labels":[]}`,
		field(by, "did"), syntax.NewTID(f.at.UnixMicro(), 1), f.cid(), by, at, f.words(40), f.IntN(9), f.IntN(90), f.IntN(900), at)
}

func (f *fake) generator() []byte {
	f.at = f.at.Add(-time.Minute)
	by := f.person()
	return fmt.Appendf(nil, `{"uri":"at://%s/app.bsky.feed.generator/%s","cid":"%s","did":"did:web:feeds.example.com","creator":%s,`+
		`"displayName":"%s","description":"%s",`+
		`"likeCount":%d,"labels":[],"viewer":{},"indexedAt":"%s"}`,
		field(by, "did"), syntax.NewTID(f.at.UnixMicro(), 1), f.cid(), by, f.words(2), f.words(18), f.IntN(900),
		f.at.Format("2006-01-02T15:04:05.000Z"))
}

// upstreamHandler answers calls that have a token, at next to no cost.
func upstreamHandler(all appView) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := all[strings.TrimPrefix(r.URL.Path, "/xrpc/")]
		if !ok || strings.Count(r.Header.Get("Authorization"), ".") != 2 {
			http.Error(w, "no such call, or no token", http.StatusBadRequest)
			return
		}
		h, out := w.Header(), body.plain
		h["Content-Type"] = []string{"application/json; charset=utf-8"}
		if body.gzipped != nil && prefersGzip(r.Header.Get("Accept-Encoding")) {
			h["Content-Encoding"] = []string{"gzip"}
			out = body.gzipped
		}
		if rev := r.URL.Query().Get("algorithm"); rev != "" {
			h["Atproto-Repo-Rev"] = []string{rev}
		}
		h["Content-Length"] = []string{strconv.Itoa(len(out))}
		_, _ = w.Write(out) // a server that has gone needs no answer
	})
}

// prefersGzip reports whether gzip has no less weight than what is not compressed. The
// reference asks with weights.
func prefersGzip(accept string) bool {
	weight := map[string]float64{}
	for coding := range strings.SplitSeq(accept, ",") {
		name, q, weighted := strings.Cut(strings.ReplaceAll(coding, " ", ""), ";q=")
		weight[name] = 1
		if weighted {
			weight[name], _ = strconv.ParseFloat(q, 64) // 0 if it is none
		}
	}
	return weight["gzip"] > 0 && weight["gzip"] >= weight["identity"]
}

// hanging is a service that takes calls and never answers.
type hanging struct {
	url   string
	calls atomic.Int64 // under way
	web   *http.Server

	mu   sync.Mutex
	over chan struct{} // closed when the calls so far are to end
}

func newHanging() (*hanging, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, err
	}
	h := &hanging{url: "http://" + l.Addr().String(), over: make(chan struct{})}
	h.web = &http.Server{ReadHeaderTimeout: requestTimeout, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		over := h.over
		h.mu.Unlock()
		h.calls.Add(1)
		defer h.calls.Add(-1)
		select {
		case <-r.Context().Done():
		case <-over:
			panic(http.ErrAbortHandler) // no answer
		}
	})}
	go func() { _ = h.web.Serve(l) }() // until close
	return h, nil
}

// wait waits until so many calls are under way.
func (h *hanging) wait(calls int64, atMost time.Duration) error {
	for begun := time.Now(); h.calls.Load() != calls; time.Sleep(time.Millisecond) {
		if time.Since(begun) > atMost {
			return fmt.Errorf("%d calls hang, want %d", h.calls.Load(), calls)
		}
	}
	return nil
}

// end waits until the calls whose clients have left are given up. The reference does not
// give them up: they are broken off. That must not happen to others, which would take it
// for a fault of the service.
func (h *hanging) end() error {
	if h.wait(0, 2*time.Second) == nil {
		return nil
	}
	h.mu.Lock()
	close(h.over)
	h.over = make(chan struct{})
	h.mu.Unlock()
	return h.wait(0, requestTimeout)
}

func (h *hanging) close() error { return h.web.Close() }
