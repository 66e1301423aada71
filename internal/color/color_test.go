package color

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#abc": "#aabbcc", "#1F6f5C": "#1f6f5c", " #000000 ": "#000000",
		"rgb(31, 111, 92)": "#1f6f5c", "rgb(31 111 92)": "#1f6f5c", "RGB(255,255,255)": "#ffffff",
		"hsl(0, 100%, 50%)": "#ff0000", "hsl(120deg 100% 25%)": "#008000", "hsl(-120, 100%, 50%)": "#0000ff", "hsl(0, 0%, 100%)": "#ffffff",
	} {
		if got, err := Parse(text); err != nil || got.String() != want {
			t.Errorf("Parse(%q) = %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "red", "#12", "#12345", "#1234567", "#ggg", "rgb(256,0,0)", "rgb(1,2)", "rgb(1,2,3,4)", "rgba(1,2,3,4)", "rgb(-1,0,0)",
		"hsl(0,1,1)", "hsl(0,101%,1%)", "hsl(NaN,1%,1%)", "hsl(0,NaN%,1%)", "hsl(Inf,1%,1%)", "url(x)", "#fff;}body{display:none", "rgb(1,2,3));",
	} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %s, want an error", text, got)
		}
	}
}

func TestContrast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b Color
		want float64
	}{{Black, White, 21}, {White, White, 1}, {Color{0x77, 0x77, 0x77}, White, 4.48}, {Color{0, 0, 255}, White, 8.59}} {
		if got := Contrast(c.a, c.b); math.Abs(got-c.want) > 0.01 {
			t.Errorf("Contrast(%s, %s) = %.3f, want %.2f", c.a, c.b, got, c.want)
		}
	}
}

// TestReadable: whatever colour an operator chooses, text on it has 4.5:1, and so has
// the colour as text.
func TestReadable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.Uint8()
		c := Color{part.Draw(t, "r"), part.Draw(t, "g"), part.Draw(t, "b")}
		if got := Contrast(On(c), c); got < 4.5 {
			t.Errorf("text on %s has %.2f:1", c, got)
		}
		for _, ground := range [][]Color{{White, {0xf6, 0xf4, 0xef}}, {{0x21, 0x20, 0x1d}, {0x17, 0x16, 0x14}}} {
			text := c.Readable(4.5, ground...)
			for _, g := range ground {
				if got := Contrast(text, g); got < 4.5 {
					t.Errorf("%s as text (%s) on %s has %.2f:1", c, text, g, got)
				}
			}
		}
		if again, err := Parse(c.String()); err != nil || again != c {
			t.Errorf("Parse(%s) = %s, %v", c, again, err)
		}
	})
}
