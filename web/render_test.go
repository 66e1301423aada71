package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"nestbox/web"
	"nestbox/web/webtest"
)

// brand is one with everything in it.
func brand() web.Brand {
	return web.Brand{
		Name: "Example Nest", HomeURL: "https://example.com", SupportURL: "https://example.com/help", PrivacyURL: "https://example.com/privacy",
		TermsURL: "https://example.com/terms", ContactEmail: "pds@example.com", Primary: "#1f6b58",
	}
}

func open(t *testing.T, s web.Settings) *web.Pages {
	t.Helper()
	s.Hostname = "pds.example.com"
	p, err := web.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// render answers a GET of the sample's path in a language.
func render(t *testing.T, p *web.Pages, s webtest.Sample, language string) (*httptest.ResponseRecorder, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.Path, http.NoBody)
	r.Header.Set("Accept-Language", language)
	w := httptest.NewRecorder()
	p.Render(w, r, s.Status, s.Page)
	return w, w.Body.String()
}

// TestEveryPage renders each sample in each language, with a whole and with a bare
// brand: no page fails, none is too large, and the form of each is sound.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	for _, b := range []web.Brand{brand(), {TermsURL: "https://example.com/terms"}} {
		p := open(t, web.Settings{Brand: b, Pseudo: true})
		for _, s := range webtest.Samples() {
			for _, language := range []string{"en", "de", "en-XA"} {
				t.Run(fmt.Sprintf("%s/%s/%s", b.Name, s.Name, language), func(t *testing.T) {
					w, body := render(t, p, s, language)
					if w.Code != s.Status || w.Header().Get("Content-Language") != language {
						t.Fatalf("status %d, language %q: %.300s", w.Code, w.Header().Get("Content-Language"), body)
					}
					if len(body) > 50<<10 {
						t.Errorf("the page has %d bytes", len(body))
					}
					doc, err := html.Parse(strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					for _, fault := range checkDocument(doc) {
						t.Error(fault)
					}
					if language == "en-XA" {
						for _, text := range untranslated(doc) {
							t.Errorf("%q is in no catalogue", text)
						}
					}
				})
			}
		}
	}
}

// TestEveryPageHasASample: a page that no sample shows would go untested.
func TestEveryPageHasASample(t *testing.T) {
	t.Parallel()
	shown := map[string]bool{}
	for _, s := range webtest.Samples() {
		shown[reflect.TypeOf(s.Page).Elem().Name()] = true
	}
	for _, name := range web.PageNames() {
		if !shown[name] {
			t.Errorf("no sample shows %s", name)
		}
	}
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// checkDocument returns what breaks the rules for every page.
func checkDocument(doc *html.Node) (faults []string) {
	ids, refs := map[string]int{}, []string{}
	headings := 0
	complain := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "style", strings.HasPrefix(a.Key, "on"):
				complain("<%s> has the attribute %s", n.Data, a.Key)
			case a.Key == "id":
				ids[a.Val]++
			case a.Key == "for", a.Key == "aria-describedby", a.Key == "aria-labelledby":
				refs = append(refs, strings.Fields(a.Val)...)
			case a.Key == "href" && strings.HasPrefix(a.Val, "#"):
				refs = append(refs, a.Val[1:])
			case strings.Contains(a.Val, "ZgotmplZ"):
				complain("<%s> has an unsafe %s", n.Data, a.Key)
			}
		}
		switch n.Data {
		case "title":
			if strings.Contains(n.FirstChild.Data, "<bdi") || strings.Contains(n.FirstChild.Data, "<wbr") { // of ours: a stranger's tags are text
				complain("markup in the title: %s", n.FirstChild.Data)
			}
		case "h1":
			headings++
		case "style":
			complain("an inline style")
		case "script":
			if _, ok := attr(n, "src"); !ok || n.FirstChild != nil {
				complain("an inline script")
			}
		case "form":
			class, _ := attr(n, "class") // a search changes nothing, and its address can be kept
			if method, _ := attr(n, "method"); method != "post" && (method != "get" || class != "search") {
				complain("a form with the method %q", method)
			}
			if action, _ := attr(n, "action"); action == "" {
				complain("a form without an action")
			}
		case "a":
			href, _ := attr(n, "href")
			rel, _ := attr(n, "rel")
			if strings.Contains(href, "://") && !strings.HasPrefix(href, "otpauth:") && rel != "noreferrer" && rel != "external" {
				complain("a link to %s with rel %q", href, rel)
			}
		}
	}
	if headings != 1 {
		complain("%d h1", headings)
	}
	for id, n := range ids {
		if n > 1 {
			complain("the id %s %d times", id, n)
		}
	}
	for _, ref := range refs {
		if ids[ref] == 0 {
			complain("nothing has the id %s", ref)
		}
	}
	return faults
}

var letters = regexp.MustCompile(`\p{L}{2,}`)

// untranslated returns texts that are in no catalogue: in the pseudo-language those
// outside of its brackets. Names of strangers and machines are marked as such.
func untranslated(n *html.Node) (found []string) {
	var walk func(*html.Node)
	depth := 0
	walk = func(n *html.Node) {
		switch n.Type { //nolint:exhaustive // the other kinds of nodes have no text
		case html.TextNode:
			var rest strings.Builder
			for _, r := range n.Data {
				switch {
				case r == '⟦':
					depth++
				case r == '⟧':
					depth--
				case depth == 0:
					rest.WriteRune(r)
				}
			}
			if letters.MatchString(rest.String()) {
				found = append(found, strings.TrimSpace(rest.String()))
			}
			return
		case html.ElementNode:
			if v, _ := attr(n, "translate"); v == "no" {
				return
			}
			_, hasLang := attr(n, "lang")
			if n.Data == "bdi" || n.Data == "option" || n.Data == "script" || n.Data == "title" || hasLang && n.Data != "html" {
				return
			}
			for _, name := range []string{"aria-label", "alt", "placeholder", "data-label", "data-copied", "title", "download"} {
				if v, ok := attr(n, name); ok && letters.MatchString(v) && !strings.Contains(v, "⟦") {
					found = append(found, name+"="+v)
				}
			}
		}
		for c := range n.ChildNodes() {
			walk(c)
		}
	}
	walk(n)
	return found
}
