package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/oauth/jose"
)

// AssertionType is the one client_assertion_type (RFC 7523 section 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// The bounds of an assertion.
const (
	maxAssertion = 8 << 10 // bytes
	maxJTI       = 255     // bytes
	// skew is how far the client's clock may be off.
	skew = 5 * time.Minute
	// usedLife is how long a jti is remembered: as long as its iat is accepted.
	usedLife = 2 * skew
	// maxUsed is how many are remembered.
	maxUsed = 500_000
)

// Assertion is what a client proves itself with.
type Assertion struct {
	// Type and JWT are client_assertion_type and client_assertion; a public client's are
	// ignored.
	Type, JWT string
	// ProofKey is the thumbprint of the request's DPoP key, empty if there is none: the same
	// key must not do both.
	ProofKey string
	// For is what the client was loaded for.
	For Purpose
}

// Proof is an assertion that was found right, and not used yet.
type Proof struct {
	// Client is what the assertion was checked against: it may be newer than what
	// Authenticate was given.
	Client *Client
	// KeyID, Alg and Thumbprint are those of the key, which a session is bound to; empty for a
	// public client.
	KeyID, Alg, Thumbprint string

	key    *jose.Key
	record func() error
}

// Is reports whether a thumbprint is the key's, as jose.Key.Is knows it; false for a public
// client.
func (p Proof) Is(thumbprint string) bool { return p.key != nil && p.key.Is(thumbprint) }

// Record uses the assertion up; it is called last, when everything else was found right,
// because clients send one again when they are asked for a nonce. It fails with *Error if
// another request has used it.
func (p Proof) Record() error {
	if p.record == nil {
		return nil
	}
	return p.record()
}

func badAssertion(rule string) error {
	return refuse(CodeInvalidClient, "client_assertion: %s", rule)
}

// claims are those of an assertion (RFC 7523 section 3).
type claims struct {
	Iss string         `json:"iss"`
	Sub string         `json:"sub"`
	Aud jsontext.Value `json:"aud"`
	JTI string         `json:"jti"`
	IAT *float64       `json:"iat"`
	Exp *float64       `json:"exp"`
	Nbf *float64       `json:"nbf"`
}

// Authenticate checks that a request comes from the client, all but whether its assertion
// was used before: Proof.Record. Errors: *Error, ErrUnavailable, request.ErrTooMany.
func (s *Service) Authenticate(ctx context.Context, c *Client, a Assertion) (Proof, error) {
	if !c.Confidential() {
		return Proof{Client: c}, nil
	}
	switch {
	case a.JWT == "" || a.Type == "":
		return Proof{}, refuse(CodeInvalidRequest, "client_assertion and client_assertion_type are required")
	case a.Type != AssertionType:
		return Proof{}, refuse(CodeInvalidClient, "client_assertion_type is not %s", AssertionType)
	case len(a.JWT) > maxAssertion:
		return Proof{}, badAssertion("it is larger than 8 KiB")
	}
	token, err := jose.Parse(a.JWT)
	if err != nil {
		return Proof{}, badAssertion("it " + err.Error())
	}
	key, err := c.signer(token)
	if err != nil { // the client may have changed its keys
		newer, ok, loadErr := s.newer(ctx, c, a.For)
		if loadErr != nil {
			return Proof{}, loadErr
		}
		if !ok || !newer.Confidential() {
			return Proof{}, err
		}
		if key, err = newer.signer(token); err != nil {
			return Proof{}, err
		}
		c = newer
	}
	if key.Thumbprint == a.ProofKey {
		return Proof{}, refuse(CodeInvalidRequest, "The DPoP key must not be the key of the client assertion")
	}
	now := s.Now()
	jti, err := s.checkClaims(c.ID, token.Payload, now)
	if err != nil {
		return Proof{}, err
	}
	return Proof{Client: c, KeyID: key.ID, Alg: token.Alg, Thumbprint: key.Thumbprint, key: key, record: func() error {
		if !s.used.use(c.ID, jti, now) {
			return badAssertion("its jti was used before")
		}
		return nil
	}}, nil
}

// signer returns the client's key that signed a token.
func (c *Client) signer(t *jose.Token) (*jose.Key, error) {
	if t.Alg != c.Alg {
		return nil, badAssertion("its alg is not the client's token_endpoint_auth_signing_alg " + c.Alg)
	}
	if t.KeyID == "" {
		return nil, badAssertion("it has no kid")
	}
	key := c.keyOf(t.KeyID)
	if key == nil {
		return nil, badAssertion("its kid is not in the client's jwks")
	}
	if !t.VerifiedBy(key) {
		return nil, badAssertion("its signature is wrong")
	}
	return key, nil
}

func (s *Service) checkClaims(id string, payload []byte, now time.Time) (jti string, err error) {
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return "", badAssertion("its claims are malformed")
	}
	switch {
	case c.Iss != id:
		return "", badAssertion("its iss is not the client_id")
	case c.Sub != id:
		return "", badAssertion("its sub is not the client_id")
	case !s.isAudience(c.Aud):
		return "", badAssertion("its aud is not " + s.Issuer)
	case c.IAT == nil:
		return "", badAssertion("it has no iat")
	case away(*c.IAT, now) > skew || away(*c.IAT, now) < -skew:
		return "", badAssertion("its iat is more than 5 minutes away from this server's clock")
	case c.Exp != nil && away(*c.Exp, now) <= -skew:
		return "", badAssertion("it has expired")
	case c.Nbf != nil && away(*c.Nbf, now) > skew:
		return "", badAssertion("it is not valid yet")
	case c.JTI == "" || len(c.JTI) > maxJTI:
		return "", badAssertion("its jti is missing or too long")
	}
	return c.JTI, nil
}

// away returns by how much a time, in seconds since 1970, is later than now: a day at most.
func away(seconds float64, now time.Time) time.Duration {
	const far = 24 * 60 * 60
	return time.Duration(min(max(seconds-float64(now.UnixMilli())/1000, -far), far) * float64(time.Second))
}

// isAudience reports whether aud names the issuer, alone or among others.
func (s *Service) isAudience(aud jsontext.Value) bool {
	var all []string
	switch aud.Kind() {
	case '"':
		all = make([]string, 1)
		if json.Unmarshal(aud, &all[0]) != nil {
			return false
		}
	case '[':
		if json.Unmarshal(aud, &all) != nil {
			return false
		}
	}
	return slices.ContainsFunc(all, func(a string) bool { return strings.TrimSuffix(a, "/") == s.Issuer })
}

// assertions are those that were used, by minute. The zero value is ready.
type assertions struct {
	mu   sync.Mutex
	sets map[int64]map[[16]byte]struct{}
	held int
}

// use records an assertion and reports whether it is the first use. If too many are held,
// those of the oldest minute are forgotten.
func (a *assertions) use(id, jti string, now time.Time) bool {
	hash := sha256.Sum256([]byte(id + "\x00" + jti)) // a client_id has no such byte
	key := [16]byte(hash[:16])
	minute := now.Unix() / 60
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(minute - int64(usedLife/time.Minute) - 1)
	for _, set := range a.sets {
		if _, ok := set[key]; ok {
			return false
		}
	}
	if a.held >= maxUsed {
		oldest := minute
		for m := range a.sets {
			oldest = min(oldest, m)
		}
		a.forget(oldest)
	}
	set := a.sets[minute]
	if set == nil {
		if a.sets == nil {
			a.sets = map[int64]map[[16]byte]struct{}{}
		}
		set = map[[16]byte]struct{}{}
		a.sets[minute] = set
	}
	set[key] = struct{}{}
	a.held++
	return true
}

// forget drops the minutes up to the last one.
func (a *assertions) forget(last int64) {
	for minute, set := range a.sets {
		if minute <= last {
			a.held -= len(set)
			delete(a.sets, minute)
		}
	}
}

// IsRefusal reports whether an error refuses the client, which is answered with its code;
// any other error is passing, and nothing is known.
func IsRefusal(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
