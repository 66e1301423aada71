package account

import (
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// The length, in characters, of the label that a person chooses below a service
// domain.
const (
	MinHandleLabel = 3
	MaxHandleLabel = 18
)

// Errors of handle checks; their texts are the reference's, which clients show.
var (
	ErrHandleForm        = errors.New("Input/handle must be a valid handle") //nolint:staticcheck // sent as it stands
	ErrHandleTLD         = errors.New("Handle TLD is invalid or disallowed") //nolint:staticcheck // sent as it stands
	ErrHandleCharacters  = errors.New("Invalid characters in handle")        //nolint:staticcheck // sent as it stands
	ErrHandleTooShort    = errors.New("Handle too short")                    //nolint:staticcheck // sent as it stands
	ErrHandleTooLong     = errors.New("Handle too long")                     //nolint:staticcheck // sent as it stands
	ErrHandleReserved    = errors.New("Reserved handle")                     //nolint:staticcheck // sent as it stands
	ErrUnsupportedDomain = errors.New("Not a supported handle domain")       //nolint:staticcheck // sent as it stands
)

// NormalizeHandle parses a handle (https://atproto.com/specs/handle) into its
// lower-case form. Names under top-level domains that the spec excludes are
// ErrHandleTLD; .test is left to the service domains.
func NormalizeHandle(raw string) (syntax.Handle, error) {
	h, err := syntax.ParseHandle(raw)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrHandleForm, err)
	}
	h = h.Normalize()
	if !h.AllowedTLD() && h.TLD() != "test" {
		return "", ErrHandleTLD
	}
	return h, nil
}

// CheckServiceHandle checks that a person may take h below one of the service
// domains (each begins with a dot): exactly one label, of a fair length, that
// is not reserved.
func CheckServiceHandle(h syntax.Handle, domains []string) error {
	domain, ok := serviceDomain(h, domains)
	if !ok {
		return ErrUnsupportedDomain
	}
	switch label := strings.TrimSuffix(h.String(), domain); {
	case strings.Contains(label, "."):
		return ErrHandleCharacters
	case len(label) < MinHandleLabel:
		return ErrHandleTooShort
	case len(label) > MaxHandleLabel:
		return ErrHandleTooLong
	case isReserved(label):
		return ErrHandleReserved
	default:
		return nil
	}
}

// serviceDomain returns the longest of domains that h lies below.
func serviceDomain(h syntax.Handle, domains []string) (string, bool) {
	best := ""
	for _, d := range domains {
		if strings.HasSuffix(h.String(), d) && len(d) > len(best) {
			best = d
		}
	}
	return best, best != ""
}

// IsServiceHandle reports whether this server is the authority for h: it lies
// below, or is, one of the service domains.
func IsServiceHandle(h syntax.Handle, domains []string) bool {
	if _, ok := serviceDomain(h, domains); ok {
		return true
	}
	for _, d := range domains {
		if "."+h.String() == d {
			return true
		}
	}
	return false
}
