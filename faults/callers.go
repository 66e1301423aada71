package faults

import (
	"context"
	"slices"
	"strings"
)

// caller is the account that makes a call; without a DID it is nobody that the server knows.
type caller struct{ DID, Handle string }

// caller returns the account that an identifier names, of which a token's DID is one.
func (f *Faults) caller(ctx context.Context, identifier string) (is caller) {
	if identifier == "" {
		return is
	}
	f.mu.Lock()
	is, known := f.callers[identifier]
	f.mu.Unlock()
	if known || f.in.Run(ctx, "account.info", map[string]string{"account": identifier}, &is) != nil {
		return is
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.callers == nil || len(f.callers) >= maxSessions {
		f.callers = map[string]caller{}
	}
	f.callers[strings.Clone(identifier)] = is
	return is
}

// forgetCallers has accounts looked up again, since handles change.
func (f *Faults) forgetCallers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.callers = nil
}

// isAny reports whether a caller is one of the accounts that a fault names.
func (c caller) isAny(accounts []string) bool {
	return c.DID != "" && slices.ContainsFunc(accounts, func(name string) bool { return name == c.DID || strings.EqualFold(name, c.Handle) })
}
