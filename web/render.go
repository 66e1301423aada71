package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"nestbox/internal/messages"
	"nestbox/request"
)

//go:embed templates
var templateFiles embed.FS

// Settings are what Pages need of the configuration. They are set once.
type Settings struct {
	// Hostname is the server's public name.
	Hostname string
	Brand    Brand
	// Dev is set under --dev: browsers are not asked to insist on https.
	Dev bool
	// Spoke, if it is set, is called with each page of an account that was shown in a
	// language: its mails have that of the last one.
	Spoke func(ctx context.Context, did, language string)
	// Pseudo adds the pseudo-language en-XA, for tests: text that is in no catalogue is
	// seen, and so is a layout that breaks on long words.
	Pseudo bool
}

// Pages renders pages. Several goroutines may use it.
type Pages struct {
	settings     Settings
	assets       *assets
	languages    *languages
	templates    map[*catalogue]*template.Template
	imageOrigins []string
}

// declared are all pages: each has its file in templates/, and no other file is there.
func declared() []Page {
	return []Page{
		&SignIn{}, &Chooser{}, &Factor{}, &Deactivated{}, &SignUp{}, &Welcome{}, &Reset{}, &ResetCode{}, &Consent{},
		&Message{}, &FormPost{}, &Confirm{}, &StepUp{},
		&AdminSignIn{}, &Desk{}, &DeskAct{},
		&Accounts{}, &Sessions{}, &Apps{}, &Devices{}, &AppPasswords{}, &AppPasswordMade{}, &Events{}, &Secure{},
		&Data{}, &Files{}, &Bring{}, &Move{}, &Security{},
		&TOTPSetup{}, &RecoveryCodes{}, &PasskeyAdd{},
		&Manage{}, &ChangeHandle{}, &ChangeEmail{}, &ChangePassword{}, &Deactivate{}, &Reactivate{}, &DeleteAccount{}, &ToolCodes{}, &About{},
		&Identity{}, &IdentityChange{},
	}
}

// The templates that every page has.
const (
	layoutFile = "templates/layout.html"
	partsFile  = "templates/parts.html"
)

// New reads templates, messages and assets, and reports whatever is wrong with them.
func New(s Settings) (*Pages, error) {
	if s.Brand.Name == "" {
		s.Brand.Name = s.Hostname
	}
	style, err := s.Brand.styleSheet()
	if err != nil {
		return nil, err
	}
	p := &Pages{settings: s, templates: map[*catalogue]*template.Template{}}
	p.imageOrigins = origins(s.Brand.LogoURL, s.Brand.BackgroundLightURL, s.Brand.BackgroundDarkURL)
	if p.assets, err = readAssets(style); err != nil {
		return nil, err
	}
	if p.languages, err = readLanguages(messageFiles, s.Pseudo); err != nil {
		return nil, err
	}
	if err := checkTemplates(templateFiles); err != nil {
		return nil, err
	}
	for _, c := range p.languages.all {
		if p.templates[c], err = readTemplates(templateFiles, p.functions(c)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// readTemplates reads the templates of all pages into one set, so that what they share is in
// memory once. Each page has the layout under its own name, with the templates "content" and
// "scripts" of its file.
func readTemplates(files fs.FS, functions template.FuncMap) (*template.Template, error) {
	set, err := template.New("").Funcs(functions).Option("missingkey=error").ParseFS(files, partsFile)
	if err != nil {
		return nil, err
	}
	layout, err := fs.ReadFile(files, layoutFile)
	if err != nil {
		return nil, err
	}
	for _, page := range declared() {
		name := page.template()
		text, err := fs.ReadFile(files, "templates/"+name+".html")
		if err != nil {
			return nil, err
		}
		own := strings.NewReplacer(`"content"`, `"`+name+`-content"`, `"scripts"`, `"`+name+`-scripts"`)
		for _, part := range []struct{ name, text string }{{name, string(layout)}, {name + ".html", string(text)}} {
			if _, err := set.New(part.name).Parse(own.Replace(part.text)); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}

// definition finds the templates that a file defines.
var definition = regexp.MustCompile(`\{\{-? *define "([^"]*)"`)

// checkTemplates reports a file that no page declares, and a template that two files define.
func checkTemplates(files fs.FS) error {
	known := []string{layoutFile, partsFile}
	for _, page := range declared() {
		known = append(known, "templates/"+page.template()+".html")
	}
	found, err := fs.Glob(files, "templates/*")
	if err != nil {
		return err
	}
	in := map[string]string{}
	for _, name := range found {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s: no page declares it", name)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		for _, m := range definition.FindAllStringSubmatch(string(text), -1) {
			defined := m[1]
			if other := in[defined]; other != "" && defined != "content" && defined != "scripts" {
				return fmt.Errorf("%s: %s defines %q too", name, other, defined)
			}
			in[defined] = name
		}
	}
	return nil
}

// view is what templates see.
type view struct {
	Page  Page
	Frame *Frame
	Brand *Brand
	// Icon is the path of the logo.
	Icon      string
	Hostname  string
	Lang, Dir string
	Languages []languageChoice
	Title     template.HTML
	// Plain is the title as text, for <title>, in which no markup can be.
	Plain string
	Self  string
	// Entry is set on the narrow pages: sign-in, consent and the like.
	Entry bool
	// Nav is the navigation of an account's own pages, Here the entry of this one.
	Nav  []navLink
	Here navLink
}

type languageChoice struct {
	Tag, Name string
	Chosen    bool
}

// Render writes a page. A page that cannot be rendered is a fault of ours: it is logged,
// and answered by a plain 500.
func (p *Pages) Render(w http.ResponseWriter, r *http.Request, status int, page Page) {
	frame := page.frame()
	c := p.languages.choose(r, frame.Locales)
	body, err := p.render(c, r, page)
	if err != nil {
		request.Fail(r.Context(), http.StatusInternalServerError, "InternalServerError", fmt.Errorf("rendering %s: %w", page.template(), err))
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	p.secure(w.Header(), r, hasCaptcha(page))
	w.Header().Set("Content-Language", c.Tag.String())
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
	if p.settings.Spoke != nil && frame.Account != nil {
		p.settings.Spoke(r.Context(), frame.Account.DID, c.Tag.String())
	}
}

func hasCaptcha(page Page) bool {
	s, ok := page.(*SignUp)
	return ok && s.CaptchaKey != "" && !s.Closed()
}

func (p *Pages) render(c *catalogue, r *http.Request, page Page) ([]byte, error) {
	frame := page.frame()
	title := page.title()
	heading, err := c.text(title.ID, title.Args...)
	if err != nil {
		return nil, err
	}
	v := view{
		Page: page, Frame: frame, Brand: &p.settings.Brand, Hostname: p.settings.Hostname, Icon: p.settings.Brand.LogoURL,
		Lang: c.Tag.String(), Dir: c.Direction(), Title: heading, Plain: plain(heading), Self: selfOf(r, frame), Nav: navigation(page),
	}
	v.Entry = len(v.Nav) == 0 && frame.Desk == nil
	if i := slices.IndexFunc(v.Nav, func(l navLink) bool { return l.Current != "" }); i >= 0 {
		v.Here = v.Nav[i]
	}
	if v.Icon == "" {
		v.Icon = p.assets.paths["icon.svg"]
	}
	for _, one := range p.languages.all {
		name, _ := one.Text("language.name", 0) // each has the messages of English
		v.Languages = append(v.Languages, languageChoice{one.Tag.String(), name, one == c})
	}
	var out bytes.Buffer
	err = p.templates[c].ExecuteTemplate(&out, page.template(), v)
	return out.Bytes(), err
}

// selfOf returns the path and query that shows a page again.
func selfOf(r *http.Request, frame *Frame) string {
	switch {
	case frame.Self != "":
		return frame.Self
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return r.URL.RequestURI()
	default:
		return "/account"
	}
}

// LanguagePath is where the form in the footer posts a language.
const LanguagePath = "/account/language"

// SetLanguage answers the form in the footer: it keeps the language in a cookie and leads
// back. The caller has checked the request's origin. Fields: lang, next.
func (p *Pages) SetLanguage(w http.ResponseWriter, r *http.Request) {
	SecureHeaders(w.Header(), r, p.settings.Dev)
	if c := p.languages.find(r.PostFormValue("lang")); c != nil {
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure but under --dev, which has no https
			Name: languageCookie, Value: c.Tag.String(), Path: "/", MaxAge: 400 * 24 * 3600,
			HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: !p.settings.Dev,
		})
	}
	http.Redirect(w, r, ownPath(r.PostFormValue("next")), http.StatusSeeOther) //nolint:gosec // ownPath lets no other through
}

// ownPath returns next if it leads to a page of ours, and else /account.
func ownPath(next string) string {
	u, err := url.Parse(next)
	switch {
	case err != nil, u.Scheme != "", u.Host != "", u.Opaque != "", strings.Contains(next, "\\"):
		return "/account"
	case path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"): // dots, or two slashes
		return "/account"
	case u.Path != "/account" && !strings.HasPrefix(u.Path, "/account/") && u.Path != "/oauth/authorize" && !strings.HasPrefix(u.Path,
		DeskPath):
		return "/account"
	}
	return u.RequestURI()
}

// Language returns the tag of the language that a page in answer to a request would
// have.
func (p *Pages) Language(r *http.Request, locales string) string {
	return p.languages.choose(r, locales).Tag.String()
}

// Languages returns the tags of all languages, for ui_locales_supported.
func (p *Pages) Languages() (tags []string) {
	for _, c := range p.languages.all {
		if c.Tag.String() != messages.Pseudo {
			tags = append(tags, c.Tag.String())
		}
	}
	return tags
}

// functions are what templates can call, in one language.
func (p *Pages) functions(c *catalogue) template.FuncMap {
	return template.FuncMap{
		"t":        c.text,
		"text":     func(t Text) (template.HTML, error) { return c.text(t.ID, t.Args...) },
		"clock":    c.clock,
		"value":    c.value,
		"visible":  visible,
		"has":      func(t time.Time) bool { return !t.IsZero() },
		"filled":   func(t Text) bool { return t.ID != "" },
		"program":  func(s string) (template.HTML, error) { return c.value(program(s)) },
		"stranger": func(s string) template.HTML { return Stranger(s).html() },
		"host":     func(s string) template.HTML { return Host(s).html() },
		"name":     name,
		"count":    c.count,
		"at":       atHandle,
		"kindof":   kindOf,
		"asset":    p.asset,
		"link":     c.link,
		"field":    newField,
		"pass":     pass,
		"png":      png,
		"otpauth":  otpauth,
		"textfile": textFile,
		"groups":   groups,
	}
}

// asset returns the path of a file in static/, or of brand.css.
func (p *Pages) asset(name string) (string, error) {
	at, ok := p.assets.paths[name]
	if !ok {
		return "", fmt.Errorf("no asset has the name %q", name)
	}
	return at, nil
}

// link writes a link to another site for a sentence; the text is a message.
func (c *catalogue) link(to, id string) (template.HTML, error) {
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "mailto" {
		return "", fmt.Errorf("%q is not a link", to)
	}
	text, err := c.text(id)
	href := template.HTML(template.HTMLEscapeString(u.String())) //nolint:gosec // escaped
	return `<a rel="noreferrer" href="` + href + `">` + text + `</a>`, err
}

// errPairs: a template calls pass or field with an odd number of arguments.
var errPairs = errors.New("arguments come in pairs of a name and a value")

// PageNames returns the names of all pages' types, for tests.
func PageNames() (names []string) {
	for _, page := range declared() {
		names = append(names, strings.TrimPrefix(fmt.Sprintf("%T", page), "*web."))
	}
	return names
}
