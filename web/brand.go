package web

import (
	"bytes"
	"fmt"
	"strings"

	"nestbox/internal/color"
)

// Brand is how an operator makes the pages their own. The zero value is the plain look.
type Brand struct {
	// Name is the service's, in titles and in the header; Hostname by default.
	Name string
	// Where the footer leads; an empty one is left out.
	HomeURL, SupportURL, PrivacyURL, TermsURL, ContactEmail string
	// LogoURL is in the header and the icon, the backgrounds lie behind the sign-in pages.
	LogoURL, BackgroundLightURL, BackgroundDarkURL string
	// The colours; an empty one keeps the plain look's. Each is one that color.Parse reads.
	Primary, Error, Warning, Info, Success string
}

// The backgrounds of static/app.css, on which coloured text is read: the page and the
// card, light and dark. TestBackgrounds compares them with the style sheet.
var (
	lightGrounds = []color.Color{{R: 0xff, G: 0xff, B: 0xff}, {R: 0xf6, G: 0xf4, B: 0xef}}
	darkGrounds  = []color.Color{{R: 0x23, G: 0x21, B: 0x1e}, {R: 0x17, G: 0x16, B: 0x14}}
)

// textContrast is more than the 4.5 that WCAG 2.2 wants of text (1.4.3): links are small.
const textContrast = 5.5

// brandColors are the five colours: the name of the style sheet's property, the setting,
// and the plain look's value.
func (b *Brand) colors() []struct{ property, setting, plain string } {
	return []struct{ property, setting, plain string }{
		{"accent", b.Primary, "#1f6b58"},
		{"error", b.Error, "#b3261e"},
		{"warning", b.Warning, "#9a6700"},
		{"info", b.Info, "#2b5ea7"},
		{"success", b.Success, "#2c6e35"},
	}
}

// styleSheet returns brand.css: each colour as a background, with black or white text on
// it, and as text, which is darkened or lightened until it can be read in either mode.
func (b *Brand) styleSheet() ([]byte, error) {
	var light, dark strings.Builder
	for _, c := range b.colors() {
		text := c.setting
		if text == "" {
			text = c.plain
		}
		value, err := color.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("colour %s: %w", c.property, err)
		}
		fmt.Fprintf(&light, "  --%s: %s;\n  --on-%s: %s;\n", c.property, value, c.property, color.On(value))
		fmt.Fprintf(&light, "  --%s-text: %s;\n", c.property, value.Readable(textContrast, lightGrounds...))
		fmt.Fprintf(&dark, "    --%s-text: %s;\n", c.property, value.Readable(textContrast, darkGrounds...))
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, ":root {\n%s}\n@media (prefers-color-scheme: dark) {\n  :root {\n%s  }\n}\n", light.String(), dark.String())
	for _, picture := range []struct{ mode, url string }{{"light", b.BackgroundLightURL}, {"dark", b.BackgroundDarkURL}} {
		if picture.url != "" {
			fmt.Fprintf(&out, onPicture, picture.mode, cssURL(picture.url))
		}
	}
	return out.Bytes(), nil
}

// onPicture shows a picture behind the narrow pages. Text that would lie on it gets the
// card's background, since nobody can know whether it could be read.
const onPicture = `@media (prefers-color-scheme: %s) {
  .entry { background-image: url("%s"); }
  .entry .brand { padding: .25rem 1rem; border-radius: 2rem; background: var(--card); }
  .entry .bottom { background: var(--card); }
}
`

// cssURL escapes a URL for a CSS string.
func cssURL(url string) string {
	var b strings.Builder
	for _, r := range url {
		switch {
		case r == '"', r == '\\', r == '<', r < ' ', r == 0x7f:
			fmt.Fprintf(&b, "\\%x ", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
