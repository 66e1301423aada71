package account

import (
	"context"
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// maxIdentifier bounds, in bytes, what can be anyone's identifier.
const maxIdentifier = 2048

// CleanIdentifier returns what someone typed as identifier at sign-in, in lower
// case, without the "@" before it and without the white space and invisible
// characters (Unicode Cf) that keyboards and copying leave in it.
func CleanIdentifier(raw string) string {
	if len(raw) > maxIdentifier {
		return ""
	}
	s := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) || unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return unicode.ToLower(r)
	}, raw)
	return strings.TrimLeft(s, "@")
}

// Find returns the account that a cleaned identifier names: a DID, an e-mail
// address or a handle. ErrNotFound where it names none.
func Find(ctx context.Context, store Store, identifier string) (*Account, error) {
	switch {
	case identifier == "":
		return nil, ErrNotFound
	case strings.HasPrefix(identifier, "did:"):
		did, err := syntax.ParseDID(identifier)
		if err != nil {
			return nil, ErrNotFound
		}
		return store.ByDID(ctx, did)
	case strings.Contains(identifier, "@"):
		return store.ByEmail(ctx, identifier)
	default:
		return store.ByHandle(ctx, syntax.Handle(identifier))
	}
}
