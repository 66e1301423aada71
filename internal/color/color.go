// Package color reads colours as CSS writes them, and computes with their contrast.
//
// Invariant: it is pure; a Color is opaque, in sRGB.
package color

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Color is an opaque colour in sRGB.
type Color struct{ R, G, B uint8 }

// Black and White are what text on a colour can be.
var (
	Black = Color{}
	White = Color{255, 255, 255}
)

// ErrForm means that a text is not a colour that Parse reads.
var ErrForm = errors.New("write #rrggbb, rgb(31, 111, 92) or hsl(166, 56%, 28%)")

var (
	hexForm  = regexp.MustCompile(`^#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})$`)
	callForm = regexp.MustCompile(`^(rgb|hsl)\(([^()]*)\)$`)
)

// Parse reads #rgb, #rrggbb, rgb(r, g, b) and hsl(h, s%, l%), with commas or blanks
// between the numbers. Any other text is ErrForm.
func Parse(text string) (Color, error) {
	text = strings.TrimSpace(text)
	if hexForm.MatchString(text) {
		digits := text[1:]
		if len(digits) == 3 {
			digits = strings.Join([]string{digits[:1], digits[:1], digits[1:2], digits[1:2], digits[2:], digits[2:]}, "")
		}
		n, err := strconv.ParseUint(digits, 16, 32)
		return Color{uint8(n >> 16 & 0xff), uint8(n >> 8 & 0xff), uint8(n & 0xff)}, err
	}
	m := callForm.FindStringSubmatch(strings.ToLower(text))
	if m == nil {
		return Color{}, ErrForm
	}
	parts := strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' })
	if len(parts) != 3 {
		return Color{}, ErrForm
	}
	if m[1] == "rgb" {
		return parseRGB(parts)
	}
	return parseHSL(parts)
}

func parseRGB(parts []string) (Color, error) {
	var v [3]uint8
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return Color{}, ErrForm
		}
		v[i] = uint8(n)
	}
	return Color{v[0], v[1], v[2]}, nil
}

func parseHSL(parts []string) (Color, error) {
	hue, err := strconv.ParseFloat(strings.TrimSuffix(parts[0], "deg"), 64)
	if err != nil || math.IsNaN(hue) || math.Abs(hue) > 3600 {
		return Color{}, ErrForm
	}
	var share [2]float64
	for i, part := range parts[1:] {
		digits, ok := strings.CutSuffix(part, "%")
		n, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || !(n >= 0 && n <= 100) {
			return Color{}, ErrForm
		}
		share[i] = n / 100
	}
	hue = math.Mod(math.Mod(hue, 360)+360, 360)
	// CSS Color 4, section 7.1.
	channel := func(n float64) uint8 {
		k := math.Mod(n+hue/30, 12)
		a := share[0] * math.Min(share[1], 1-share[1])
		return uint8(math.Round(255 * (share[1] - a*math.Max(-1, math.Min(math.Min(k-3, 9-k), 1)))))
	}
	return Color{channel(0), channel(8), channel(4)}, nil
}

// String returns #rrggbb.
func (c Color) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// luminance is the relative luminance of WCAG 2.2.
func (c Color) luminance() float64 {
	linear := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c.R) + 0.7152*linear(c.G) + 0.0722*linear(c.B)
}

// Contrast returns the contrast ratio of WCAG 2.2, from 1 to 21.
func Contrast(a, b Color) float64 {
	x, y := a.luminance(), b.luminance()
	return (math.Max(x, y) + 0.05) / (math.Min(x, y) + 0.05)
}

// On returns black or white, whichever contrasts more with the background c.
func On(c Color) Color {
	if Contrast(c, Black) >= Contrast(c, White) {
		return Black
	}
	return White
}

// Mix returns c with a share (0 to 1) of other.
func (c Color) Mix(other Color, share float64) Color {
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a)*(1-share) + float64(b)*share)) }
	return Color{mix(c.R, other.R), mix(c.G, other.G), mix(c.B, other.B)}
}

// Readable returns c as text: darkened or lightened until it has the contrast ratio on
// each of the backgrounds. On light backgrounds it darkens, on dark ones it lightens.
func (c Color) Readable(ratio float64, backgrounds ...Color) Color {
	to := On(backgrounds[0])
	for step := range 101 {
		mixed := c.Mix(to, float64(step)/100)
		enough := true
		for _, b := range backgrounds {
			enough = enough && Contrast(mixed, b) >= ratio
		}
		if enough {
			return mixed
		}
	}
	return to
}
