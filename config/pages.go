package config

import (
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"nestbox/internal/color"
)

// maxServiceName is in characters: authenticator apps cut longer names.
const maxServiceName = 64

// checkPages checks what the pages for people show.
func (c *Config) checkPages(f *Faults) {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == ':' } // a colon ends the name in authenticator apps
	if utf8.RuneCountInString(c.ServiceName) > maxServiceName || strings.ContainsFunc(c.ServiceName, bad) {
		f.add("PDS_SERVICE_NAME", fmt.Sprintf("%q cannot be shown everywhere", c.ServiceName),
			fmt.Sprintf("use at most %d characters, and no colon", maxServiceName))
	}
	for _, one := range []struct{ name, value string }{
		{"PDS_HOME_URL", c.HomeURL},
		{"PDS_SUPPORT_URL", c.SupportURL},
		{"PDS_PRIVACY_POLICY_URL", c.PrivacyPolicyURL},
		{"PDS_TERMS_OF_SERVICE_URL", c.TermsOfServiceURL},
		{"PDS_LOGO_URL", c.LogoURL},
		{"PDS_BACKGROUND_LIGHT_URL", c.BackgroundLightURL},
		{"PDS_BACKGROUND_DARK_URL", c.BackgroundDarkURL},
	} {
		if one.value != "" && !isURL(one.value) {
			f.add(one.name, fmt.Sprintf("%q is not a URL", one.value), "write one like https://example.com/page")
		}
	}
	for _, one := range []struct{ name, value string }{
		{"PDS_PRIMARY_COLOR", c.PrimaryColor},
		{"PDS_ERROR_COLOR", c.ErrorColor},
		{"PDS_WARNING_COLOR", c.WarningColor},
		{"PDS_INFO_COLOR", c.InfoColor},
		{"PDS_SUCCESS_COLOR", c.SuccessColor},
	} {
		if _, err := color.Parse(one.value); one.value != "" && err != nil {
			f.add(one.name, fmt.Sprintf("%q is not a colour", one.value), err.Error())
		}
	}
	if a, err := mail.ParseAddress(c.ContactEmail); c.ContactEmail != "" && (err != nil || a.Address != c.ContactEmail) {
		f.add("PDS_CONTACT_EMAIL_ADDRESS", fmt.Sprintf("%q is not an address", c.ContactEmail), "write one like pds@example.com")
	}
}

// checkCaptcha checks the keys of hCaptcha; if serving, that both are there.
func (c *Config) checkCaptcha(f *Faults, serving bool) {
	for _, one := range []struct{ name, value, partner, other string }{
		{"PDS_HCAPTCHA_SITE_KEY", c.HCaptchaSiteKey, "PDS_HCAPTCHA_SECRET_KEY", c.HCaptchaSecretKey.Reveal()},
		{"PDS_HCAPTCHA_SECRET_KEY", c.HCaptchaSecretKey.Reveal(), "PDS_HCAPTCHA_SITE_KEY", c.HCaptchaSiteKey},
	} {
		switch {
		case one.value == "":
		case strings.ContainsFunc(one.value, func(r rune) bool { return r <= ' ' || r > '~' }):
			f.add(one.name, "is not a key of hCaptcha", "copy it from https://dashboard.hcaptcha.com, without blanks")
		case serving && one.other == "":
			f.add(one.name, "is useless without "+one.partner, "set both, or none")
		}
	}
}
