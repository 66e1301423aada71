package mail

import (
	"html/template"
	"slices"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// isHTML reports whether a text has elements of HTML that people write messages
// with.
func isHTML(text string) bool {
	elements := []string{
		"a", "abbr", "b", "blockquote", "body", "br", "center", "code", "del", "div", "em", "font",
		"h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "html", "i", "img", "ins", "li", "ol", "p", "pre",
		"s", "script", "small", "span", "strong", "style", "sub", "sup", "table", "td", "tr", "u", "ul",
	}
	z := html.NewTokenizer(strings.NewReader(text))
	for token := z.Next(); token != html.ErrorToken; token = z.Next() {
		name, _ := z.TagName()
		if token != html.EndTagToken && slices.Contains(elements, string(name)) {
			return true
		}
	}
	return false
}

// sanitise parses HTML that others wrote and keeps what a letter may have:
// formatting, lists, tables and links that lead out. Nothing in it is fetched or
// run. It fails if elements are nested too deeply.
func sanitise(content string) ([]*html.Node, error) {
	policy := bluemonday.NewPolicy()
	policy.AllowStandardURLs()
	policy.AllowRelativeURLs(false)
	policy.AllowAttrs("href").OnElements("a")
	policy.AllowLists()
	policy.AllowTables()
	policy.AllowElements("abbr", "b", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
		"i", "ins", "p", "pre", "s", "small", "span", "strong", "sub", "sup", "u")
	policy.SkipElementsContent("head", "title")
	return html.ParseFragment(strings.NewReader(policy.Sanitize(content)), &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div})
}

// markup writes sanitised nodes for a letter, each element closed.
func markup(nodes []*html.Node) template.HTML {
	var b strings.Builder
	for _, n := range nodes {
		if err := html.Render(&b, n); err != nil {
			panic("mail: render HTML: " + err.Error()) // writing to a Builder never fails
		}
	}
	return template.HTML(b.String()) //nolint:gosec // it was sanitised
}

// plainText returns what sanitised nodes say without markup: at most one empty line
// between blocks, and the target of each link behind it.
func plainText(nodes []*html.Node) string {
	var b strings.Builder
	for _, n := range nodes {
		writePlain(&b, n)
	}
	var lines []string
	for line := range strings.Lines(b.String()) {
		line = oneLine(line)
		if line != "" || len(lines) > 0 && lines[len(lines)-1] != "" {
			lines = append(lines, line)
		}
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

func writePlain(b *strings.Builder, n *html.Node) {
	if n.Type == html.TextNode {
		text := n.Data
		if n.Parent == nil || n.Parent.DataAtom != atom.Pre {
			text = strings.NewReplacer("\n", " ", "\r", " ").Replace(text)
		}
		b.WriteString(text)
		return
	}
	before, after := "", ""
	switch n.Data {
	case "br":
		before = "\n"
	case "hr":
		before = "\n\n---\n\n"
	case "li":
		before = "\n- "
	case "tr", "div":
		before, after = "\n", "\n"
	case "td", "th":
		after = " "
	case "p", "blockquote", "pre", "ul", "ol", "table", "h1", "h2", "h3", "h4", "h5", "h6":
		before, after = "\n\n", "\n\n"
	}
	b.WriteString(before)
	start := b.Len()
	for child := range n.ChildNodes() {
		writePlain(b, child)
	}
	for _, attr := range n.Attr {
		if n.DataAtom == atom.A && attr.Key == "href" && attr.Val != strings.TrimSpace(b.String()[start:]) {
			b.WriteString(" (" + attr.Val + ")")
		}
	}
	b.WriteString(after)
}
