package oauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"nestbox/session"
)

// idLength is that of a request's ID, in bytes.
const idLength = 22

// code returns the code of an allowed request: its ID, and a MAC over it, the account and the
// decision. It is the same whenever it is made, so it needs not be stored.
func (s *Service) code(q *Request) string {
	mac := hmac.New(sha256.New, s.CodeKey)
	for _, part := range []string{
		q.ID, strconv.FormatInt(q.AccountID, 10), string(q.Decision), q.DecidedAt.Format(time.RFC3339Nano),
		q.Granted,
	} {
		mac.Write([]byte(part + "\x00"))
	}
	return q.ID + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// idOf returns the ID of the request that a code is of.
func idOf(code string) (id string, ok bool) {
	if len(code) < idLength {
		return "", false
	}
	return code[:idLength], true
}

// exchange is what a client shows to have a code exchanged.
type exchange struct {
	code, redirect, verifier string
	holder                   session.Holder
}

// replayForgiven is how long a code may be redeemed again by the same program without harm:
// callbacks run twice.
const replayForgiven = time.Minute

// errReplayed: a code that was redeemed before, with everything else right.
var errReplayed = errors.New("code was redeemed before")

// check returns why a code cannot be exchanged: an invalid_grant, or errReplayed. A program
// that does not have everything else right does not learn that the code was redeemed.
func (s *Service) check(q *Request, x exchange, now time.Time) error {
	owner := q.Holder
	owner.DPoPJKT = x.holder.DPoPJKT
	verifier := sha256.Sum256([]byte(x.verifier))
	switch {
	case q.Decision != Allow, subtle.ConstantTimeCompare([]byte(s.code(q)), []byte(x.code)) != 1:
		return badGrant("Invalid code")
	case x.holder != owner:
		return badGrant("This code was issued to another client, or to another key of it")
	case x.redirect != q.Parameters.RedirectURI && (x.redirect != "" || !q.Parameters.RedirectImplied):
		return badGrant("redirect_uri is not that of the request")
	case !isVerifier(x.verifier):
		return badGrant("code_verifier must have 43 to 128 characters of A-Z a-z 0-9 - . _ ~")
	case base64.RawURLEncoding.EncodeToString(verifier[:]) != q.Parameters.Challenge:
		return badGrant("code_verifier is not that of code_challenge")
	case !q.RedeemedAt.IsZero():
		return errReplayed
	case q.DPoPJKT != "" && q.DPoPJKT != x.holder.DPoPJKT:
		return badGrant("The request was bound to another DPoP key")
	case now.Sub(q.DecidedAt) >= codeLife:
		return badGrant("This code has expired")
	}
	return nil
}

// isVerifier is RFC 7636 section 4.1.
func isVerifier(text string) bool {
	return len(text) >= 43 && len(text) <= 128 && strings.Trim(text,
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~") == ""
}

// challengeHash is what is stored of a redeemed request's challenge.
func challengeHash(challenge string) []byte {
	h := sha256.Sum256([]byte("challenge\x00" + challenge))
	return h[:]
}
