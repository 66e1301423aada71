package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Window is how long one nonce is given out.
const Window = time.Minute

// A nonce is accepted from one window before its own, for other nodes' clocks, to four
// windows after it: five minutes at most, the specification's limit.
const (
	windowsBefore = 1
	windowsAfter  = 4
)

const nonceSize = 16 // bytes

// SecretSize is the size of the secret of nonces, in bytes.
const SecretSize = 32

// window returns the number of the window that a time is in: minutes since 1970.
func window(t time.Time) int64 { return t.Unix() / int64(Window/time.Second) }

// Nonces makes the nonces of windows. Servers with the same secret make the same ones. It
// is safe for concurrent use.
type Nonces struct {
	secret []byte
	made   [16]atomic.Pointer[nonce] // the last ones, by the lowest bits of the window
}

type nonce struct {
	window int64
	text   string
}

// NewNonces makes nonces from a secret of SecretSize bytes.
func NewNonces(secret []byte) *Nonces { return &Nonces{secret: secret} }

// of returns the nonce of a window.
func (n *Nonces) of(w int64) string {
	slot := &n.made[w&int64(len(n.made)-1)]
	if known := slot.Load(); known != nil && known.window == w {
		return known.text
	}
	mac := hmac.New(sha256.New, n.secret)
	mac.Write(binary.BigEndian.AppendUint64([]byte("dpop"), uint64(w))) //nolint:gosec // its bits are hashed
	fresh := &nonce{w, base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:nonceSize])}
	slot.Store(fresh)
	return fresh.text
}

// find returns the window, of those from first to last, whose nonce text is.
func (n *Nonces) find(text string, first, last int64) (w int64, ok bool) {
	for w = last; w >= first; w-- {
		if hmac.Equal([]byte(n.of(w)), []byte(text)) {
			return w, true
		}
	}
	return 0, false
}
