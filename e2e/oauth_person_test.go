package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// person is somebody with a browser who answers an app's request on the server's pages, by
// their forms, as docs and password managers know them.
type person struct {
	identifier, password string
	// deny makes the person refuse.
	deny bool
	// withoutCookies is a browser that keeps none.
	withoutCookies bool
	// transport is the browser's way to the server; nil for the usual one.
	transport http.RoundTripper
	// seen are the steps that the pages asked for.
	seen []string

	client *http.Client
}

// maxPages is more than any flow has.
const maxPages = 10

// answer opens the link and returns where the browser is sent in the end.
func (p *person) answer(ctx context.Context, link string) (string, error) {
	if p.client == nil {
		p.client = &http.Client{Transport: p.transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if !p.withoutCookies {
			jar, err := cookiejar.New(nil)
			if err != nil {
				return "", err
			}
			p.client.Jar = jar
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, link, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Sec-Fetch-Dest", "document")
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	for range maxPages {
		at := req.URL
		status, location, page, err := p.load(req)
		if err != nil {
			return "", err
		}
		if status == http.StatusSeeOther {
			return location, nil
		}
		f, err := readForm(page)
		if err != nil || status != http.StatusOK {
			return "", fmt.Errorf("status %d: %w\n%s", status, err, page)
		}
		p.seen = append(p.seen, f.values.Get("step"))
		if err := p.fill(f); err != nil {
			return "", err
		}
		target, err := at.Parse(f.action)
		if err != nil {
			return "", err
		}
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(f.values.Encode())); err != nil {
			return "", err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", target.Scheme+"://"+target.Host)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	return "", fmt.Errorf("no end after the steps %q", p.seen)
}

func (p *person) load(req *http.Request) (status int, location, page string, err error) {
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Location"), string(body), err
}

// fill answers one step.
func (p *person) fill(f *form) error {
	switch step := f.values.Get("step"); step {
	case "account":
		f.values.Set("decision", "other")
	case "sign-in":
		f.values.Set("identifier", p.identifier)
		f.values.Set("password", p.password)
		f.values.Set("decision", "sign-in")
	case "consent":
		f.values["permission"] = f.offered["permission"]
		if len(f.offered["understood"]) > 0 {
			f.values.Set("understood", "on")
		}
		f.values.Set("decision", "allow")
		if p.deny {
			f.values.Set("decision", "deny")
		}
	default:
		return fmt.Errorf("nobody knows the step %q", step)
	}
	if d := f.values.Get("decision"); !slices.Contains(f.offered["decision"], d) {
		return fmt.Errorf("the page has no button %q, but %q", d, f.offered["decision"])
	}
	return nil
}

// form is the form of a page's step.
type form struct {
	action string
	// values are sent: hidden fields and what is filled in.
	values url.Values
	// offered are the values of buttons and tick boxes by name.
	offered url.Values
}

var errNoForm = errors.New("the page has no form with a step")

// readForm finds the form of a page that has a field step.
func readForm(page string) (*form, error) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return nil, err
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode || n.Data != "form" {
			continue
		}
		f := &form{action: attribute(n, "action"), values: url.Values{}, offered: url.Values{}}
		for field := range n.Descendants() {
			name := attribute(field, "name")
			switch {
			case field.Type != html.ElementNode || name == "":
			case field.Data == "button", attribute(field, "type") == "checkbox":
				f.offered.Add(name, attribute(field, "value"))
			case field.Data == "input":
				f.values.Add(name, attribute(field, "value"))
			}
		}
		if f.values.Has("step") {
			return f, nil
		}
	}
	return nil, errNoForm
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

// mustAnswer is answer for tests.
func (p *person) mustAnswer(t *testing.T, link string) string {
	t.Helper()
	to, err := p.answer(t.Context(), link)
	if err != nil {
		t.Fatal(err)
	}
	return to
}
