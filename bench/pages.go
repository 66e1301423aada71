package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// page is a page as a browser loads it.
type page struct {
	Name string `json:"name"`
	// HTML is its size, All with the files that it names, Files of them; in bytes, not
	// compressed. The reference's scripts load more.
	HTML  int `json:"htmlBytes"`
	All   int `json:"allBytes"`
	Files int `json:"files"`
	// Foreign are the files on other hosts.
	Foreign int `json:"foreignFiles"`
	// FirstByte is from the request to the first byte of the answer, in milliseconds.
	FirstByteP50 float64 `json:"firstByteP50Milliseconds"`
	FirstByteP99 float64 `json:"firstByteP99Milliseconds"`
}

// pageLoads is how often each page is loaded.
const pageLoads = 200

// pagesOf loads the pages of a request, one after the other, as one person does.
func pagesOf(s *server, u *user) ([]page, error) {
	c, err := dial(s.host)
	if err != nil {
		return nil, err
	}
	defer c.close()
	push := func(hint string) (string, error) {
		hash := sha256.Sum256([]byte(hint + time.Now().String()))
		return u.app.push(c, encoded(hash[:]), hint)
	}
	path, err := push("")
	if err != nil {
		return nil, err
	}
	b := newBrowser(c, u.site.origin)
	signIn, err := loadPage(b, u.site, page{Name: "sign-in"}, "sign-in", path)
	if err != nil {
		return nil, err
	}
	// A browser that the person has signed in with comes to the consent at once.
	b.remember = true
	if _, err := u.site.allow(b, u, path); err != nil {
		return nil, err
	}
	if path, err = push(u.handle); err != nil {
		return nil, err
	}
	consent, err := loadPage(b, u.site, page{Name: "consent"}, "consent", path)
	if err != nil {
		return nil, err
	}
	account, err := loadPage(newBrowser(c, u.site.origin), u.site, page{Name: "account"}, "sign-in", u.site.account)
	return []page{signIn, consent, account}, err
}

// loadPage measures a page, which must be that of a step.
func loadPage(b *browser, at *site, p page, step, path string) (page, error) {
	body, err := b.open(path)
	if err != nil {
		return p, err
	}
	if !at.shows(body, step) {
		return p, fmt.Errorf("a page that is not that of %s: %.500q", step, body)
	}
	p.HTML = len(body)
	files, foreign := filesOf(string(body), at.origin)
	p.Files, p.Foreign, p.All = len(files), foreign, p.HTML
	for _, file := range files {
		if err := b.ask("GET", file, "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\n", "", nil); err != nil {
			return p, err
		}
		body, err := b.take(http.StatusOK)
		if err != nil {
			return p, fmt.Errorf("%s: %w", file, err)
		}
		p.All += len(body)
	}
	var waits []float64
	for i := range pageLoads + pageLoads/10 {
		begun := time.Now()
		if err := b.ask("GET", path, fromLink, "", nil); err != nil {
			return p, err
		}
		if _, err := b.read.Peek(1); err != nil {
			return p, err
		}
		if i >= pageLoads/10 { // warm
			waits = append(waits, time.Since(begun).Seconds()*1000)
		}
		if _, err := b.take(http.StatusOK); err != nil {
			return p, err
		}
	}
	slices.Sort(waits)
	p.FirstByteP50, p.FirstByteP99 = waits[len(waits)/2], waits[len(waits)*99/100]
	return p, nil
}

// fileOf finds what a page names to be loaded with it.
var fileOf = regexp.MustCompile(`<(?:script|link|img)\b[^>]*?\s(?:src|href)="([^"]+)"`)

// filesOf returns the paths of the files that a page loads from its own server, and how many
// it loads from others.
func filesOf(html, origin string) (files []string, foreign int) {
	for _, m := range fileOf.FindAllStringSubmatch(html, -1) {
		u, err := url.Parse(strings.TrimPrefix(m[1], origin))
		switch {
		case err == nil && u.Scheme == "data":
		case err != nil || u.Host != "" || u.Scheme != "":
			foreign++
		case !slices.Contains(files, u.RequestURI()):
			files = append(files, u.RequestURI())
		}
	}
	return files, foreign
}

// pageRows are those of one page of Nestbox.
func (f *figures) pageRows(w *strings.Builder, ours page) {
	i := slices.IndexFunc(f.Pages["reference"], func(p page) bool { return p.Name == ours.Name })
	row := func(what string, of func(p page) string, want, reached string) {
		theirs := ""
		if i >= 0 {
			theirs = of(f.Pages["reference"][i])
		}
		fmt.Fprintf(w, "| page %s: %s | %s | %s | %s | %s |\n", ours.Name, what, theirs, of(ours), want, reached)
	}
	kib := func(n int) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }
	row("HTML", func(p page) string { return kib(p.HTML) }, fmt.Sprintf("≤ %d KiB", mostHTML>>10), yes(ours.HTML <= mostHTML))
	row("with the files that it names, of them on other hosts", func(p page) string {
		return fmt.Sprintf("%s, %d", kib(p.All), p.Foreign)
	}, "0 on others", yes(ours.Foreign == 0))
	row("first byte, half of the loads and 99 %", func(p page) string {
		return fmt.Sprintf("%.1f, %.1f ms", p.FirstByteP50, p.FirstByteP99)
	}, fmt.Sprintf("≤ %d ms", mostFirstByte), yes(ours.FirstByteP50 <= mostFirstByte))
}
