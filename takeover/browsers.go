package takeover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/device"
	"nestbox/request"
	"nestbox/signin"
)

// Browser is a row of the source's table device, with those of account_device.
type Browser struct {
	// ID and Session are the browser's cookies dev-id and ses-id.
	ID, Session        string
	UserAgent, Address string
	Seen               time.Time
	SignIns            []BrowserSignIn
}

// BrowserSignIn is an account that is signed in on a browser.
type BrowserSignIn struct {
	DID string
	// At is when its owner last gave the password.
	At time.Time
}

// BrowserSource is what the source keeps of browsers.
type BrowserSource interface {
	// Browsers calls yield for each browser that somebody is signed in on.
	Browsers(ctx context.Context, yield func(Browser) error) error
}

// BroughtBrowser is a browser as it is stored, with the hash of the secret that its cookies
// are here.
type BroughtBrowser struct {
	Browser device.Browser
	Hash    [device.HashSize]byte
}

// BrowserStore keeps the browsers that are brought; see SessionStore.
type BrowserStore interface {
	Holder(ctx context.Context, did syntax.DID) (Holder, error)
	// PutBrowser stores a browser and returns its number.
	PutBrowser(ctx context.Context, b BroughtBrowser) (int64, error)
}

// BrowserCounts counts what became of the source's browsers.
type BrowserCounts struct {
	Browsers int `json:"browsers"`
	SignIns  int `json:"signIns"`
	// Dropped are sign-ins that had ended, or of accounts that were not taken over.
	Dropped int `json:"dropped"`
}

// BringBrowsers brings the browsers that people are signed in on, and returns their numbers
// by their names in the source.
func BringBrowsers(ctx context.Context, src BrowserSource, dst BrowserStore, now time.Time) (map[string]int64, BrowserCounts, error) {
	now = now.UTC().Truncate(time.Millisecond)
	var counts BrowserCounts
	numbers := map[string]int64{}
	err := src.Browsers(ctx, func(b Browser) error {
		brought, ok := b.brought(now)
		for _, in := range b.SignIns {
			holder, err := holderOf(ctx, dst, in.DID)
			if err != nil && !errors.Is(err, ErrNoAccount) {
				return err
			}
			s := in.brought(holder, &brought.Browser, now)
			if err != nil || !ok || !s.Live(now) {
				counts.Dropped++
				continue
			}
			brought.Browser.SignIns = append(brought.Browser.SignIns, s)
		}
		if len(brought.Browser.SignIns) == 0 {
			return nil
		}
		number, err := dst.PutBrowser(ctx, brought)
		if err == nil {
			numbers[b.ID] = number
			counts.Browsers++
			counts.SignIns += len(brought.Browser.SignIns)
		}
		return err
	})
	return numbers, counts, err
}

// brought returns a browser without its sign-ins. It reports false if its cookies are none.
// The secret counts as old, so that the browser gets one of ours with the first page.
func (b *Browser) brought(now time.Time) (BroughtBrowser, bool) {
	hash, ok := device.InheritedHash(b.ID, b.Session)
	seen := earlier(b.Seen, now)
	if seen.IsZero() {
		return BroughtBrowser{}, false
	}
	network := ""
	if addr, err := netip.ParseAddr(b.Address); err == nil {
		network = request.NetworkOf(addr.Unmap()).String()
	}
	return BroughtBrowser{Hash: hash, Browser: device.Browser{
		Secrets: []device.Secret{{Hash: hash}}, RotatedAt: seen.Add(-device.SecretLife), MadeAt: seen, SeenAt: seen,
		Network: network, UserAgent: b.UserAgent,
	}}, ok
}

func (in BrowserSignIn) brought(h Holder, b *device.Browser, now time.Time) device.SignIn {
	at := earlier(in.At, now)
	return device.SignIn{
		AccountID: h.AccountID, DID: syntax.DID(in.DID), At: at, UsedAt: later(at, b.SeenAt),
		Factors: signin.ByPassword.Key(), Remember: true,
	}
}

// LegacyStore keeps all that tokens and cookies of the source stand for.
type LegacyStore interface {
	SessionStore
	GrantStore
	BrowserStore
	// GrantsLeft reports whether a grant lives that was brought.
	GrantsLeft(ctx context.Context) (bool, error)
}

// Arrived counts all that became of what the source keeps of sessions.
type Arrived struct {
	Sessions SessionCounts `json:"sessions"`
	Grants   GrantCounts   `json:"grants"`
	Browsers BrowserCounts `json:"browsers"`
}

// String returns the counts as a report has them: what came, and what did not and why.
func (a Arrived) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions, %d grants of OAuth clients, %d consents, %d browsers",
		a.Sessions.Sessions, a.Grants.Sessions, a.Grants.Consents, a.Browsers.Browsers)
	sep := "; left out: "
	for _, why := range []struct {
		n    int
		text string
	}{
		{a.Sessions.SignedOut, "signed out"},
		{a.Sessions.Expired + a.Grants.Expired, "expired"},
		{a.Sessions.NoAppPassword, "of revoked app passwords"},
		{a.Sessions.NoAccount + a.Grants.NoAccount, "of accounts that were not taken over"},
		{a.Browsers.Dropped, "ended on browsers"},
		{a.Sessions.Damaged + a.Grants.Damaged, "damaged"},
	} {
		if why.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", sep, why.n, why.text)
			sep = ", "
		}
	}
	return b.String()
}
