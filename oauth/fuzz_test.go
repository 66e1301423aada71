package oauth_test

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"nestbox/oauth"
	"nestbox/oauth/client"
	"nestbox/signin"
)

// FuzzFlow: what this server did not seal is refused, whatever it is; what it did comes back as it
// was, unless it is old or another browser's.
func FuzzFlow(f *testing.F) {
	w := newWorld(f, f.TempDir())
	state := oauth.Flow{
		Request: "r", DID: w.alice.DID, InFlow: true, Epoch: 1, ProvenAt: w.clock.Now(), Device: 7, Step: oauth.StepConsent,
		Claim: &signin.Claim{DID: w.alice.DID, At: w.clock.Now()}, Methods: []signin.Method{signin.TOTP}, Wish: oauth.WishOther, Remember: true,
	}
	sealed := w.SealFlow(state)
	f.Add("", 0, byte(0), int64(7), 0)
	f.Add("", 0, byte(0), int64(8), 0)
	f.Add("", 0, byte(0), int64(0), 31)
	f.Add("", 99, byte(1), int64(7), 0)
	f.Add("AAAA", 0, byte(0), int64(0), 0)
	now := w.clock.Now()
	f.Fuzz(func(t *testing.T, text string, at int, change byte, device int64, minutes int) {
		minutes %= 100_000
		w.clock.Set(now.Add(time.Duration(minutes) * time.Minute))
		ours := text == "" && change == 0
		if text == "" {
			raw := []byte(sealed)
			raw[uint(at)%uint(len(raw))] ^= change
			text = string(raw)
		}
		got, err := w.OpenFlow(text, device)
		if ours != (err == nil) || err != nil && !reflect.DeepEqual(got, oauth.Flow{}) {
			t.Fatalf("%q: %+v, %v", text, got, err)
		}
		if err != nil {
			return
		}
		old, other := minutes >= 30 || minutes <= -30, device != 0 && device != 7
		if proves := got.DID != "" || got.Claim != nil || got.InFlow; proves == (old || other) {
			t.Fatalf("%d minutes later on browser %d: %+v", minutes, device, got)
		}
		if got.Request != "r" || got.Wish != oauth.WishOther {
			t.Fatalf("%+v", got)
		}
	})
}

// FuzzBody: no body of a request is answered by anything but JSON with a known status, and none that
// is refused leaves a request behind.
func FuzzBody(f *testing.F) {
	w := newWorld(f, f.TempDir())
	w.Limits = nil
	a := w.app(publicID)
	form := a.asked().Encode()
	for _, path := range []string{oauth.PathPush, oauth.PathToken, oauth.PathRevoke} {
		for _, kind := range []string{"application/x-www-form-urlencoded", "application/json", "application/json; charset=utf-8", "text/plain"} {
			f.Add(path, kind, form)
			f.Add(path, kind, form+"&scope=atproto")
			f.Add(path, kind, `{"client_id":"`+publicID+`","grant_type":"refresh_token","refresh_token":"a.b.c","token":1}`)
			f.Add(path, kind, "\xff=%zz&&;=")
		}
	}
	f.Fuzz(func(t *testing.T, path, kind, body string) {
		if a.handler(path) == nil || strings.ContainsAny(kind, "\r\n\x00") {
			t.Skip()
		}
		b := *a
		w := *a.world
		w.t, b.world = t, &w
		proof := ""
		if path == oauth.PathToken {
			proof = b.dpop.Proof(http.MethodPost, issuer+path, a.DPoP.Nonce(), "")
		}
		got := b.send(path, kind, body, proof)
		switch got.Status {
		case http.StatusOK, http.StatusCreated:
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable, http.StatusTooManyRequests:
			if got.Error == "" || got.Description == "" || got.text("request_uri") != "" {
				t.Fatalf("%+v", got)
			}
		default:
			t.Fatalf("%s", got)
		}
		if uri := got.text("request_uri"); uri != "" {
			q, err := w.Find(t.Context(), publicID, uri)
			if err != nil || (&client.Client{RedirectURIs: []string{a.redirect()}}).Redirect(q.Parameters.RedirectURI) != nil {
				t.Fatalf("%+v, %v", q, err)
			}
		}
	})
}

// FuzzAnswer: whatever the client's state is, it comes back as it was.
func FuzzAnswer(f *testing.F) {
	w := newWorld(f, f.TempDir())
	f.Add("a b+c&d=e#f", "query")
	f.Add("\u2028<script>", "fragment")
	f.Fuzz(func(t *testing.T, state, mode string) {
		q := &oauth.Request{Parameters: oauth.Parameters{RedirectURI: "https://app.example.com/back?x=1", State: state, ResponseMode: oauth.ResponseMode(mode)}}
		a := w.Fail(q, "access_denied", "no")
		u, err := url.Parse(a.URL)
		if err != nil {
			t.Fatal(err)
		}
		if mode == string(oauth.ModeFormPost) {
			return
		}
		got := u.Query()
		if mode == string(oauth.ModeFragment) {
			if got, err = url.ParseQuery(u.EscapedFragment()); err != nil {
				t.Fatal(err)
			}
		}
		if got.Get("state") != state || got.Get("iss") != issuer || got.Get("error") != "access_denied" {
			t.Fatalf("%q: %s", state, a.URL)
		}
	})
}
