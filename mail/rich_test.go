package mail_test

import (
	"regexp"
	"strings"
	"testing"

	"nestbox/mail"
)

// inLetter returns what a moderator's message becomes in text and HTML, without the
// letter around it.
func inLetter(t *testing.T, content string) (text, html string) {
	t.Helper()
	m := templates.FromModerator(mail.Reader{To: "a@example.com"}, "Subject", content)
	_, text, _ = strings.Cut(m.Text, "Subject\n\n")
	text, _, found := strings.Cut(text, "\n-- \n")
	_, html, _ = strings.Cut(m.HTML, "</h1>")
	html, _, closed := strings.Cut(html, "\n</td></tr>\n</table>\n<table")
	if !found || !closed {
		t.Fatalf("the letter around %q is broken:\n%s\n%s", content, m.Text, m.HTML)
	}
	return strings.TrimSpace(text), html
}

// TestFromModerator: HTML keeps its form in both parts, and what is not HTML stays
// text.
func TestFromModerator(t *testing.T) {
	for content, c := range map[string]struct{ text, html string }{
		"<p>Hello <b>Alice</b>,</p><p>see\nthis.</p>":                             {"Hello Alice,\n\nsee this.", "<p>Hello <b>Alice</b>,</p><p>see\nthis.</p>"},
		"One<br>Two<br/>&lt;three&gt; &amp; four":                                 {"One\nTwo\n<three> & four", "One<br/>Two<br/>&lt;three&gt; &amp; four"},
		"<ul><li>a</li><li>b</li></ul>":                                           {"- a\n- b", "<ul><li>a</li><li>b</li></ul>"},
		`<a href="https://example.com/rules">the rules</a>`:                       {"the rules (https://example.com/rules)", `<a href="https://example.com/rules"`},
		`<a href="https://example.com/">https://example.com/</a>`:                 {"https://example.com/", `<a href="https://example.com/"`},
		"<html><head><title>T</title></head><body><h1>Hi</h1><div>x</div></body>": {"Hi\n\nx", "<h1>Hi</h1><div>x</div>"},
		"</div></td></tr></table><p>out":                                          {"out", "<p>out</p></div>"},
		"<table><tr><td>a</td><td>b</td></tr></table>":                            {"a b", "<td>b</td>"},
		"<pre>a\nb</pre>": {"a\nb", "<pre>a\nb</pre>"},
		"Mail <alice@example.com>, if 1 <2 or a < b and <name>\n\nwants":            {"Mail <alice@example.com>, if 1 <2 or a < b and <name>\n\nwants", "Mail &lt;alice@example.com&gt;"},
		`<p>x</p><script>alert("1")</script><style>p{}</style><svg onload=x></svg>`: {"x", "<p>x</p>"},
	} {
		text, html := inLetter(t, content)
		if text != c.text || !strings.Contains(html, c.html) {
			t.Errorf("%s\nis %q, want %q\n%s\nwant %s", content, text, c.text, html, c.html)
		}
	}
}

// TestFromModeratorHarmless: nothing in a message is run or fetched, leads to another
// scheme, or hides.
func TestFromModeratorHarmless(t *testing.T) {
	for _, content := range []string{
		`<p onclick="x()">a</p>`, `<b>a</b><img src="https://evil.example/pixel.png">`, `<a href="javascript:x()">a</a>`, `<a href="/relative">a</a>`,
		`<p style="background:url(https://evil.example/a)">a</p>`, `<b>a</b><iframe src="https://evil.example"></iframe>`, `<p>a<form action="https://evil.example"><input></form>`,
		`<b>a</b><link rel="stylesheet" href="https://evil.example/a.css">`, `<p>a</p><math><mtext><style><img onerror=x src></style></mtext></math>`, `<b>a</b><!-- <script> -->`,
	} {
		text, html := inLetter(t, content)
		if text != "a" {
			t.Errorf("%s says %q", content, text)
		}
		html = strings.ReplaceAll(html, `style="margin:0 0 16px;word-break:break-word;"`, "")
		if bad := regexp.MustCompile(`(?i)on[a-z]+=|<img|<script|<style|<link|<form|<input|<iframe|<svg|<math|style=|javascript|evil|relative|<!--`).FindString(html); bad != "" {
			t.Errorf("%s has %q:\n%s", content, bad, html)
		}
	}
}

func FuzzFromModerator(f *testing.F) {
	for _, s := range []string{"<p>a", "a<b", "<table><td>", "<a href='x'>", "</td></table>", "<pre>\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		m := (&mail.Templates{Hostname: "h"}).FromModerator(mail.Reader{To: "a@example.com"}, "s", content)
		if !strings.HasPrefix(m.Text, "s\n") || !strings.HasSuffix(strings.TrimSpace(m.HTML), "</html>") || strings.Contains(m.HTML, "<script") {
			t.Fatalf("%q:\n%s\n%s", content, m.Text, m.HTML)
		}
	})
}

// TestDeepHTML: HTML that is nested too deeply to be parsed is sent as it is.
func TestDeepHTML(t *testing.T) {
	content := strings.Repeat("<div>", 600) + "hello" + strings.Repeat("</div>", 600)
	templates := mail.Templates{Hostname: "pds.example.com"}
	if m := templates.FromModerator(mail.Reader{To: "a@example.com"}, "x", content); !strings.Contains(m.Text, "hello") || !strings.Contains(m.HTML, "&lt;div&gt;") {
		t.Errorf("text %.200q, HTML %.200q", m.Text, m.HTML)
	}
}
