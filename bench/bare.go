package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
)

// bareProxy is the name of the least that can pass a call on: it verifies the caller's
// token, signs one of its own, and leaves the rest to net/http/httputil.
const bareProxy = "bare proxy"

// minimal is the bare proxy.
type minimal struct {
	secret []byte
	keys   sync.Map // by DID: atcrypto.PrivateKey
	lastID atomic.Int64
	pass   http.Handler
}

// bareHandler passes calls on to a service, and makes accounts for itself.
func bareHandler(service string) (http.Handler, error) {
	to, err := url.Parse(service)
	if err != nil {
		return nil, err
	}
	m := &minimal{secret: []byte(rand.Text())}
	m.pass = &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:  &http.Transport{MaxIdleConnsPerHost: 128, DisableCompression: true},
		BufferPool: &bufferPool{sync.Pool{New: func() any { return new([32 << 10]byte) }}},
		ErrorLog:   slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /xrpc/com.atproto.server.createAccount", m.createAccount)
	mux.HandleFunc("/xrpc/", m.proxy)
	return mux, nil
}

// bufferPool implements httputil.BufferPool.
type bufferPool struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (p *bufferPool) Get() []byte {
	b, _ := p.pool.Get().(*[32 << 10]byte)
	return b[:]
}

// Put implements httputil.BufferPool.
func (p *bufferPool) Put(b []byte) { p.pool.Put((*[32 << 10]byte)(b)) }

// bareClaims are what a token of the bare proxy says.
type bareClaims struct {
	Sub syntax.DID `json:"sub"`
	Exp int64      `json:"exp"`
}

func (m *minimal) sign(signed string) []byte {
	mac := hmac.New(sha256.New, m.secret)
	mac.Write([]byte(signed))
	return mac.Sum(nil)
}

func (m *minimal) createAccount(w http.ResponseWriter, _ *http.Request) {
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	did := syntax.DID(fmt.Sprintf("did:plc:%024d", m.lastID.Add(1)))
	m.keys.Store(did, key)
	part := base64.RawURLEncoding.EncodeToString
	token := part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part(encode(bareClaims{did, time.Now().Add(time.Hour).Unix()}))
	token += "." + part(m.sign(token))
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(encode(map[string]string{"did": did.String(), "accessJwt": token, "refreshJwt": token}))
}

// caller verifies a token.
func (m *minimal) caller(r *http.Request) (syntax.DID, error) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", errors.New("no token")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, m.sign(parts[0]+"."+parts[1])) {
		return "", errors.New("a token of somebody else")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var c bareClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return "", err
	}
	if time.Now().Unix() >= c.Exp {
		return "", errors.New("the token has expired")
	}
	return c.Sub, nil
}

func (m *minimal) proxy(w http.ResponseWriter, r *http.Request) {
	did, err := m.caller(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	v, _ := m.keys.Load(did)
	key, ok := v.(atcrypto.PrivateKey)
	if !ok {
		http.Error(w, "no such account", http.StatusUnauthorized)
		return
	}
	now := time.Now()
	token, err := auth.NewServiceToken(key, did, appViewDID, strings.TrimPrefix(r.URL.Path, "/xrpc/"), now, now.Add(time.Minute))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	r.Header["Authorization"] = []string{"Bearer " + token}
	m.pass.ServeHTTP(w, r)
}
