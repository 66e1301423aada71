package web

import "slices"

// part is an entry of the navigation of an account's pages.
type part struct {
	// path is the last segment of its address, label the id of its message.
	path, label string
	// pages are the templates that belong to it, its own first.
	pages []string
}

// parts returns the navigation of an account's pages, in its order. A page that belongs to
// none has no navigation.
func parts() []part {
	return []part{
		{"manage", "nav.manage", []string{"manage", "handle", "email", "password", "deactivate", "delete", "toolcodes"}},
		{"sessions", "nav.sessions", []string{"sessions", "devices"}},
		{"apps", "nav.apps", []string{"apps"}},
		{"app-passwords", "nav.app-passwords", []string{"apppasswords", "apppasswordmade"}},
		{"security", "nav.security", []string{"security", "totpsetup", "recoverycodes", "passkeyadd"}},
		{"events", "nav.events", []string{"events", "secure"}},
		{"data", "nav.data", []string{"data", "files", "bring"}},
		{"identity", "nav.identity", []string{"identity", "identitychange"}},
		{"move", "nav.move", []string{"move"}},
		{"about", "nav.about", []string{"about"}},
	}
}

// navLink is an entry of the navigation as a page shows it.
type navLink struct {
	Href string
	Text Text
	// Current is the value of aria-current; empty for another page's.
	Current string
}

// navigation returns the entries that an account has beside a page; none for a page that
// belongs to no part, or to no account.
func navigation(page Page) (links []navLink) {
	a := page.frame().Account
	if a == nil || !slices.ContainsFunc(parts(), func(p part) bool { return slices.Contains(p.pages, page.template()) }) {
		return nil
	}
	for _, p := range parts() {
		if a.TakenDown && !whileTakenDown(p.path) {
			continue
		}
		link := navLink{Href: a.Path(p.path), Text: Msg(p.label)}
		switch i := slices.Index(p.pages, page.template()); {
		case i == 0:
			link.Current = "page"
		case i > 0:
			link.Current = "true"
		}
		links = append(links, link)
	}
	return links
}

// whileTakenDown reports whether the page of a path is open to an account that is taken
// down: its owner reads why, and may leave.
func whileTakenDown(path string) bool {
	return slices.Contains([]string{"about", "data", "files", "file", "deactivate"}, path)
}
