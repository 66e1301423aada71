package web

import (
	"html/template"
	"strings"
	"time"
)

// Page is what Render writes: a pointer to one of the structs of pages_*.go.
type Page interface {
	frame() *Frame
	// template returns the name of the page's file in templates/, without its suffix.
	template() string
	// title returns the page's heading, which begins the document's title too.
	title() Text
}

// Frame is what every page has, whatever it shows.
type Frame struct {
	// Form is what each form of the page sends besides its fields.
	Form Form
	// Locales are the request's ui_locales: what the client asks for comes before the
	// person's cookie and browser.
	Locales string
	// Self is the path and query that shows this page again by GET: the form in the
	// footer that changes the language leads back to it. Empty: the request's own, if it
	// was a GET, and else /account.
	Self string
	// Client is the app that the person signs in to; nil outside the flow.
	Client *Client
	// Account is the account that the page is about; nil if there is none yet. On pages
	// below /account/u/ it makes the navigation.
	Account *Account
	// Desk is set on the pages below /admin once somebody has signed in there.
	Desk *DeskFrame
	// Notices are shown above everything else.
	Notices []Notice
	// Problems are what is wrong with what was typed. The page lists them above the form,
	// links each to its field, and marks the field.
	Problems []Problem
}

func (f *Frame) frame() *Frame { return f }

// Problem returns the fault of a field, or nil.
func (f *Frame) Problem(field string) *Problem {
	for i := range f.Problems {
		if f.Problems[i].Field == field {
			return &f.Problems[i]
		}
	}
	return nil
}

// Form is what each form of a page sends besides its fields.
type Form struct {
	// Action is the path that forms post to: /oauth/authorize in the flow.
	Action string
	// Flow is the sealed state of the OAuth flow, the hidden field flow.
	Flow string
	// CSRF is the token of the other pages, the hidden field csrf.
	CSRF string
	// Reactivate is the token of the form that reactivates a deactivated account, which
	// posts to a path of its own; CSRF if it is empty.
	Reactivate string
	// Next is the path that is gone to afterwards, the hidden field next; may be empty.
	Next string
}

// Notice is a message above a page.
type Notice struct {
	Kind Kind
	Text Text
}

// Kind is the tone of a notice or a message. The zero value is Info.
type Kind string

// The tones. Each has its colour and its sign, so that colour is never alone.
const (
	Info    Kind = "info"
	Success Kind = "success"
	Warning Kind = "warning"
	Failure Kind = "error"
)

// Problem is what is wrong with a field.
type Problem struct {
	// Field is the name of the field; empty if the fault is of no single one.
	Field string
	Text  Text
}

// Client is an app that asks for access.
type Client struct {
	// ID is the client_id; Host its host in ASCII.
	ID, Host string
	// Loopback is set for an app on this computer, which has no host.
	Loopback bool
	// Name, URI and LogoURL come from the client's document and are set for trusted
	// clients only. LogoURL is a path of this server.
	Name, URI, LogoURL string
	// Claimed is the name in the document of a client that is not trusted. Only pages about
	// an app that the person has signed in to show it.
	Claimed string
	// TermsURL and PolicyURL are the app's own; may be empty.
	TermsURL, PolicyURL string
}

// ShownID returns the client_id as the consent page shows it: without the scheme and
// the customary path of documents, which tell nobody anything.
func (c *Client) ShownID() string {
	id := strings.TrimPrefix(c.ID, "https://")
	return strings.TrimSuffix(id, "/oauth-client-metadata.json")
}

// label returns the client's name for a sentence: the trusted name, or the host.
func (c *Client) label() any {
	switch {
	case c.Loopback:
		return Msg("client.loopback")
	case c.Name != "":
		return Stranger(c.Name)
	default:
		return Host(c.Host)
	}
}

// Account is an account as pages show it.
type Account struct {
	DID string
	// Handle is without "@"; empty if the account has no valid one, then the DID is shown.
	Handle string
	// Deactivated makes account pages offer to reactivate it. DeleteAt is when it will be
	// deleted unless that is done; zero for never.
	Deactivated bool
	DeleteAt    time.Time
	// TakenDown and Suspended are by the operator; a page of either says so.
	TakenDown, Suspended bool
}

// Label returns the handle, or the DID of an account without one.
func (a *Account) Label() string {
	if a.Handle == "" {
		return a.DID
	}
	return a.Handle
}

// Path returns the path of one of the account's pages: "manage", "sessions", "security".
func (a *Account) Path(part string) string { return "/account/u/" + a.DID + "/" + part }

// Passkey is what a form needs so that a passkey can answer it.
type Passkey struct {
	// Options are the options as go-webauthn marshals them: {"publicKey": {…}}.
	Options string
	// Ceremony is the sealed SessionData, the hidden field ceremony. The answer comes in
	// the hidden field credential, as JSON.
	Ceremony string
	// Conditional offers passkeys in the identifier field as well. Its options and its
	// ceremony are the same.
	Conditional bool
}

// Link leads somewhere; Away is set if that is another site.
type Link struct {
	URL  string
	Text Text
	// Away marks a link to another site: its host is shown, and no referrer sent.
	Away bool
	// External marks the link back to the app (rel="external").
	External bool
	// Redirect marks a URL that the client's document names as its redirect URI, which may
	// have a scheme of the app's own.
	Redirect bool
}

// Href returns the URL for a template, which lets none but ordinary schemes pass unless the
// URL was checked.
func (l Link) Href() any {
	if l.Redirect {
		return template.URL(l.URL) //nolint:gosec // package client has checked it, and its scheme
	}
	return l.URL
}
