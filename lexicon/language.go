package lexicon

import (
	"slices"
	"strings"
)

// maxLanguage is longer than every language tag in use, in bytes.
const maxLanguage = 256

// isLanguage reports whether s is a well-formed language tag (RFC 5646, section
// 2.1) whose language is in lower case.
func isLanguage(s string) bool {
	if len(s) > maxLanguage {
		return false
	}
	if slices.ContainsFunc(grandfathered(), func(tag string) bool { return strings.EqualFold(tag, s) }) {
		return true
	}
	t := subtags(strings.Split(s, "-"))
	if t.privateUse() {
		return len(t) == 0
	}
	if !t.language() {
		return false
	}
	t.take(func(p string) bool { return len(p) == 4 && isAlpha(p) })                               // script
	t.take(func(p string) bool { return len(p) == 2 && isAlpha(p) || len(p) == 3 && isDigits(p) }) // region
	// Each variant, and each extension, may occur once.
	seen := map[string]bool{}
	for {
		before := t
		if !t.variant() && !t.extension() {
			break
		}
		name := strings.ToLower(before[0])
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	t.privateUse()
	return len(t) == 0
}

// subtags are the parts of a tag that are not read yet.
type subtags []string

// take reads a part that fits, and reports whether there was one.
func (t *subtags) take(fits func(string) bool) bool {
	if len(*t) == 0 || !fits((*t)[0]) {
		return false
	}
	*t = (*t)[1:]
	return true
}

// language reads the language: two or three lower-case letters, and up to three
// parts that extend it. The syntax also has longer ones, which do not exist, and
// capitals, which atproto does not accept.
func (t *subtags) language() bool {
	if !t.take(func(p string) bool { return (len(p) == 2 || len(p) == 3) && isAlpha(p) && p == strings.ToLower(p) }) {
		return false
	}
	for range 3 {
		if !t.take(func(p string) bool { return len(p) == 3 && isAlpha(p) }) {
			break
		}
	}
	return true
}

// variant reads a variant of the language. There is none behind an extension: it
// would be a part of that.
func (t *subtags) variant() bool {
	return t.take(func(p string) bool { return isAlnum(p, 5, 8) || isAlnum(p, 4, 4) && isDigits(p[:1]) })
}

// extension reads a letter or digit other than x and what it introduces.
func (t *subtags) extension() bool {
	return t.introduced(func(p string) bool { return isAlnum(p, 1, 1) && !strings.EqualFold(p, "x") }, 2)
}

// privateUse reads an x and what it introduces.
func (t *subtags) privateUse() bool {
	return t.introduced(func(p string) bool { return strings.EqualFold(p, "x") }, 1)
}

// introduced reads a part that fits and at least one part of up to 8 letters and
// digits behind it.
func (t *subtags) introduced(fits func(string) bool, least int) bool {
	if len(*t) < 2 || !fits((*t)[0]) || !isAlnum((*t)[1], least, 8) {
		return false
	}
	*t = (*t)[1:]
	for t.take(func(p string) bool { return isAlnum(p, least, 8) }) {
	}
	return true
}

func isAlpha(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > 'z' || !isLetter(byte(r)) }) //nolint:gosec // r fits: it is checked first
}

func isDigits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// isAlnum reports whether s is from least to most letters and digits.
func isAlnum(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most &&
		!strings.ContainsFunc(s, func(r rune) bool { return r > 'z' || !isAlphanumeric(byte(r)) }) //nolint:gosec // as above
}

// grandfathered returns the tags that do not follow the syntax and are valid all the
// same (RFC 5646, section 2.2.8).
func grandfathered() []string {
	return []string{
		"en-GB-oed", "i-ami", "i-bnn", "i-default", "i-enochian", "i-hak", "i-klingon", "i-lux", "i-mingo", "i-navajo",
		"i-pwn", "i-tao", "i-tay", "i-tsu", "sgn-BE-FR", "sgn-BE-NL", "sgn-CH-DE",
		"art-lojban", "cel-gaulish", "no-bok", "no-nyn", "zh-guoyu", "zh-hakka", "zh-min", "zh-min-nan", "zh-xiang",
	}
}
