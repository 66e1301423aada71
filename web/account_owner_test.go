package web_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"nestbox/internal/pdstest"
)

// owner is a person on the pages of their account.
type owner struct {
	*browser

	pdstest.Session
	t *testing.T
}

// owner makes an account, and signs its owner in on a browser.
func (w *flowWorld) owner(name string) *owner {
	w.t.Helper()
	o := &owner{browser: w.browser(true), Session: w.account(name), t: w.t}
	o.enter(name + ".test")
	return o
}

// enter signs in on the page.
func (o *owner) enter(identifier string) shown {
	o.t.Helper()
	page := o.press(o.get(o.w.URL+"/account/sign-in"), "sign-in", "identifier", identifier, "password", flowPassword)
	o.at(page, http.StatusSeeOther, "/account")
	return page
}

// path returns the path of one of the account's pages.
func (o *owner) path(part string) string { return "/account/u/" + o.DID + "/" + part }

func (o *owner) page(part string) shown {
	o.t.Helper()
	return o.get(o.w.URL + o.path(part))
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// press fills in the form of a page that has a button with a value, as a browser does, and
// presses the button.
func (b *browser) press(page shown, button string, fields ...string) shown {
	b.w.t.Helper()
	doc, err := html.Parse(strings.NewReader(page.body))
	if err != nil {
		b.w.t.Fatal(err)
	}
	for form := range doc.Descendants() {
		if form.Type != html.ElementNode || form.Data != "form" {
			continue
		}
		typed, pressed := url.Values{}, false
		for n := range form.Descendants() {
			switch {
			case n.Type != html.ElementNode:
			case n.Data == "button" && attribute(n, "value") == button:
				typed.Set(attribute(n, "name"), button)
				pressed = true
			case n.Data == "input" && attribute(n, "name") != "" && attribute(n, "type") != "checkbox":
				typed.Add(attribute(n, "name"), attribute(n, "value"))
			}
		}
		if !pressed {
			continue
		}
		for i := 0; i+1 < len(fields); i += 2 {
			typed.Set(fields[i], fields[i+1])
		}
		path, _, _ := strings.Cut(attribute(form, "action"), "#")
		return b.postForm(path, typed, "Sec-Fetch-Site", "same-origin")
	}
	b.w.t.Fatalf("no form has the button %q\n%s", button, page.body)
	return shown{}
}

// at fails the test unless a page has a status, leads to a path (empty: nowhere), and says
// the texts.
func (o *owner) at(page shown, status int, leads string, texts ...string) shown {
	o.t.Helper()
	to := ""
	if page.location != nil {
		to = page.location.RequestURI()
	}
	if page.status != status || !strings.HasPrefix(to, leads) || leads == "" && to != "" {
		o.t.Fatalf("%d to %q, want %d to %q\n%s", page.status, to, status, leads, page.body)
	}
	body := strings.ReplaceAll(page.body, "<wbr>", "")
	plain := html.UnescapeString(regexp.MustCompile("<[^>]*>").ReplaceAllString(body, ""))
	for _, text := range texts {
		if !strings.Contains(plain, text) && !strings.Contains(body, text) {
			o.t.Errorf("the page lacks %q\n%s", text, page.body)
		}
	}
	return page
}

// proven answers the page that asks for a proof by the password, and returns the next page.
func (o *owner) proven(page shown) shown {
	o.t.Helper()
	o.at(page, http.StatusOK, "", "Confirm that it is you")
	return o.press(page, "confirm", "password", flowPassword)
}

// provenBoth answers it by the password and the code that is mailed to an address.
func (o *owner) provenBoth(page shown, box *pdstest.Mailbox, address string) shown {
	o.t.Helper()
	page = o.at(o.proven(page), http.StatusOK, "", "Confirm that it is you", "We have mailed a code to")
	return o.press(page, "confirm", "code", box.Code(o.t, address))
}

// trail returns the kinds of the account's last entries, the latest first.
func (o *owner) trail() (kinds []string) {
	o.t.Helper()
	var info struct {
		Trail []struct{ Kind, Reason string }
	}
	if err := o.w.Run(o.t.Context(), "account.info", map[string]string{"account": o.DID}, &info); err != nil {
		o.t.Fatal(err)
	}
	for _, e := range info.Trail {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

// happened fails the test unless the trail has an entry among its latest three.
func (o *owner) happened(kind string) {
	o.t.Helper()
	if all := o.trail(); !slices.Contains(all[:min(3, len(all))], kind) {
		o.t.Errorf("the trail lacks %s: %v", kind, all)
	}
}

// parts are the pages of an account that this file and its neighbours test.
func ownerPages() []string {
	return []string{"manage", "handle", "email", "password", "deactivate", "reactivate", "delete", "codes", "data", "identity", "about"}
}

// TestOwnerPages: each page is shown to the owner alone, in every language, and a form of
// another site does nothing.
func TestOwnerPages(t *testing.T) {
	t.Parallel()
	w := newFlowWorld(t)
	alice, bob := w.owner("alice"), w.owner("bob")
	for _, part := range ownerPages() {
		want, leads := http.StatusOK, ""
		if part == "reactivate" {
			want, leads = http.StatusSeeOther, alice.path("manage") // it is active
		}
		page := alice.at(alice.page(part), want, leads)
		alice.at(bob.get(w.URL+alice.path(part)), http.StatusSeeOther, "/account/sign-in?account=alice.test")
		if page.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", part, page.header)
		}
		if part == "about" {
			continue
		}
		for _, origin := range []string{"cross-site", "same-site", "none"} {
			form := url.Values{"decision": {"delete"}, "handle": {"alice.test"}}
			alice.at(alice.postForm(alice.path(part), form, "Sec-Fetch-Site", origin), http.StatusForbidden, "")
		}
		if page := alice.postTo(alice.path(part), shown{}, "decision", "deactivate"); page.status != http.StatusForbidden {
			t.Errorf("%s without a token: %d", part, page.status)
		}
	}
	german := alice.get(w.URL+alice.path("manage"), "Accept-Language", "de")
	alice.at(german, http.StatusOK, "", "Dein Konto", "Feste Nummer", alice.DID)
	alice.at(alice.get(w.URL+"/account/u/"+alice.DID), http.StatusSeeOther, alice.path("manage"))
}
