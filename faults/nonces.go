package faults

import (
	"net/http"
	"sync"
	"time"

	"nestbox/oauth/dpop"
)

// nonces are those that clients may use once, each, by the key of their proofs.
type nonces struct {
	mu  sync.Mutex
	out map[string]map[string]int // how often each was given out and not used
}

// maxKeys bounds how many keys are known: one that is forgotten is asked for another nonce.
const maxKeys = 1_000

// use reports whether a key's proof has a nonce that it was given and has not used.
func (n *nonces) use(p *proof) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out[p.key][p.nonce] == 0 {
		return false
	}
	n.out[p.key][p.nonce]--
	return true
}

// give notes that a key was given a nonce.
func (n *nonces) give(p *proof, nonce string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out == nil || len(n.out) >= maxKeys {
		n.out = map[string]map[string]int{}
	}
	if n.out[p.key] == nil {
		n.out[p.key] = map[string]int{}
	}
	n.out[p.key][nonce]++
}

// nonceOf returns the server's nonce of a minute.
func (f *Faults) nonceOf(at time.Time) string {
	before := at.Add(-dpop.Window)
	c := dpop.Checker{Nonces: f.in.Proofs.Nonces, Replays: dpop.NewReplays(before, 0), Now: func() time.Time { return before }}
	return c.Nonce() // a server that has just started gives out that of the next minute
}

// otherNonce returns a nonce that the server accepts and that is not this one; empty while it
// accepts one only, in the minute in which it started.
func (f *Faults) otherNonce(than string) string {
	now := f.in.Now()
	this, next := f.nonceOf(now), f.nonceOf(now.Add(dpop.Window))
	switch given := f.in.Proofs.Nonce(); {
	case given != this:
		return ""
	case than != this:
		return this
	}
	return next
}

// refuseNonce answers that a proof needs another nonce, as the server would.
func (a *answer) refuseNonce(c *call, nonce string) {
	status, who := http.StatusUnauthorized, "Resource"
	if c.oauth {
		status, who = http.StatusBadRequest, "Authorization"
	}
	message := who + " server requires nonce in DPoP proof"
	a.refuse(c, status, dpop.CodeUseNonce, message)
	if !c.oauth {
		a.header.Set("WWW-Authenticate", `DPoP algs="`+dpop.AnnouncedAlgs+`", error="`+dpop.CodeUseNonce+`", error_description="`+message+`"`)
	}
	a.header.Set("DPoP-Nonce", nonce)
	a.asked = true
}
