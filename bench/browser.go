package main

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const pathAuthorize = "/oauth/authorize"

// site is a server as programs and browsers meet it.
type site struct {
	// origin is what it calls itself.
	origin string
	// allow passes the pages of a request as a user with a browser does, and returns where
	// the last one leads.
	allow func(b *browser, u *user, page string) (location string, err error)
	// account is the page for a person's accounts, as somebody sees it who is not signed in.
	account string
	// shows reports whether a page is that of a step.
	shows func(page []byte, step string) bool
}

// siteOf looks at a server's own description.
func siteOf(s *server) (*site, error) {
	c, err := dial(s.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := c.write("GET", "/.well-known/oauth-authorization-server", "", "", nil); err != nil {
		return nil, err
	}
	body, err := c.answer()
	if err != nil {
		return nil, err
	}
	origin := field(body, "issuer")
	if origin == "" {
		return nil, fmt.Errorf("%s does not name its issuer: %.200q", s.name, body)
	}
	if s.name == "reference" {
		// One document for all steps; its scripts make the page.
		shows := func(page []byte, _ string) bool { return bytes.Contains(page, []byte("__customizationData")) }
		return &site{origin, allowAtReference, "/account", shows}, nil
	}
	shows := func(page []byte, step string) bool { return formOf(page, step) != nil }
	return &site{origin, allowAtNestbox, "/account/sign-in", shows}, nil
}

// browser is a person's: it keeps cookies, and says where a request comes from.
type browser struct {
	*conn

	origin string
	jar    map[string]string
	// remember: the person ticks "remember me".
	remember bool
}

func newBrowser(c *conn, origin string) *browser {
	return &browser{conn: c, origin: origin, jar: map[string]string{}}
}

// The Sec-Fetch headers of a browser that opens a link of another site, sends a form, and
// runs a script.
const (
	fromLink   = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
	fromPage   = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
	fromScript = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: same-origin\r\nSec-Fetch-Dest: empty\r\n"
)

// ask sends a request; the caller reads the answer, with take.
func (b *browser) ask(method, path, header, kind string, body []byte) error {
	header += b.cookieLine()
	if method == "POST" {
		header += "Origin: " + b.origin + "\r\n"
	}
	return b.write(method, path, header, kind, body)
}

// cookieLine is the header with the cookies, with its end.
func (b *browser) cookieLine() string {
	if len(b.jar) == 0 {
		return ""
	}
	var pairs []string
	for name, value := range b.jar {
		pairs = append(pairs, name+"="+value)
	}
	return "Cookie: " + strings.Join(pairs, "; ") + "\r\n"
}

// take reads an answer of the given status, and its cookies.
func (b *browser) take(want int) ([]byte, error) {
	status, body, err := b.reply()
	if err != nil {
		return nil, err
	}
	for _, c := range b.cookies {
		pair, _, _ := strings.Cut(c, ";")
		name, value, _ := strings.Cut(pair, "=")
		b.jar[name] = value
	}
	if status != want {
		return nil, &answerError{status, fmt.Sprintf("%.2000s", body)}
	}
	return body, nil
}

// open follows a link.
func (b *browser) open(path string) ([]byte, error) {
	if err := b.ask("GET", path, fromLink, "", nil); err != nil {
		return nil, err
	}
	return b.take(http.StatusOK)
}

// press sends a form of /oauth/authorize with one of its buttons.
func (b *browser) press(form url.Values, decision string, want int) ([]byte, error) {
	form.Set("decision", decision)
	if err := b.ask("POST", pathAuthorize, fromPage, typeForm, []byte(form.Encode())); err != nil {
		return nil, err
	}
	return b.take(want)
}

// allowAtNestbox fills in the forms.
func allowAtNestbox(b *browser, u *user, page string) (location string, err error) {
	body, err := b.open(page)
	if err != nil {
		return "", err
	}
	form := formOf(body, "sign-in")
	if form == nil {
		return "", errors.New("no form to sign in")
	}
	form.Set("identifier", u.handle)
	form.Set("password", password)
	if b.remember {
		form.Set("remember", "on")
	}
	if body, err = b.press(form, "sign-in", http.StatusOK); err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	if form = formOf(body, "consent"); form == nil {
		return "", errors.New("no form to consent")
	}
	if _, err := b.press(form, "allow", http.StatusSeeOther); err != nil {
		return "", fmt.Errorf("consent: %w", err)
	}
	return b.location, nil
}

// The parts of a page that are looked at.
var (
	inputTag  = regexp.MustCompile(`<input [^>]*>`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

// formOf returns what a browser would send of a step's form, without the button; nil if the
// page has no such form.
func formOf(page []byte, step string) url.Values {
	return formWhere(page, func(_ string, fields url.Values) bool { return fields.Get("step") == step })
}

// formTo is formOf for the form that is sent to a path.
func formTo(page []byte, path string) url.Values {
	return formWhere(page, func(tag string, _ url.Values) bool { return strings.Contains(tag, ` action="`+path+`"`) })
}

// formWhere finds a form by its tag and the fields that it sends.
func formWhere(page []byte, is func(tag string, fields url.Values) bool) url.Values {
	for _, form := range strings.Split(string(page), "<form ")[1:] {
		form, _, _ = strings.Cut(form, "</form>")
		fields := url.Values{}
		for _, tag := range inputTag.FindAllString(form, -1) {
			a := map[string]string{}
			for _, m := range attribute.FindAllStringSubmatch(strings.TrimPrefix(tag, "<input"), -1) {
				a[m[1]] = html.UnescapeString(m[2])
			}
			_, checked := a["checked"]
			if a["type"] == "hidden" || a["type"] == "checkbox" && checked {
				fields.Add(a["name"], a["value"])
			}
		}
		if tag, _, _ := strings.Cut(form, ">"); is(" "+tag, fields) {
			return fields
		}
	}
	return nil
}

// allowAtReference calls what the scripts of its pages call.
func allowAtReference(b *browser, u *user, page string) (location string, err error) {
	if _, err := b.open(page); err != nil {
		return "", err
	}
	call := func(method, bearer string, in any) ([]byte, error) {
		header := fromScript + "Referer: " + b.origin + page + "\r\nX-CSRF-Token: " + b.jar["csrf-token"] + "\r\n"
		if bearer != "" {
			header += "Authorization: Bearer " + bearer + "\r\n"
		}
		if err := b.ask("POST", "/@atproto/oauth-provider/~api/"+method, header, typeJSON, encode(in)); err != nil {
			return nil, err
		}
		return b.take(http.StatusOK)
	}
	body, err := call("sign-in", "", map[string]any{"locale": "en", "username": u.handle, "password": password, "remember": b.remember})
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	// It stands for the sign-in where the browser does not remember it.
	bearer := field(body, "ephemeralToken")
	if body, err = call("consent", bearer, map[string]any{"did": u.did, "scope": appScope}); err != nil {
		return "", fmt.Errorf("consent: %w", err)
	}
	next, ok := strings.CutPrefix(field(body, "url"), b.origin)
	if !ok {
		return "", fmt.Errorf("consent leads nowhere: %.200q", body)
	}
	if err := b.ask("GET", next, fromPage+"Referer: "+b.origin+page+"\r\n", "", nil); err != nil {
		return "", err
	}
	if _, err := b.take(http.StatusSeeOther); err != nil {
		return "", fmt.Errorf("redirect: %w", err)
	}
	return b.location, nil
}
