package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/config"
	"nestbox/device"
	"nestbox/internal/seal"
	"nestbox/request"
	"nestbox/web"
)

// buildPeople wires the pages for people: the site, which has defences of its own that no
// route can forget, and none of the API's.
func (s *Server) buildPeople(box *seal.Box) error {
	c := &s.opts.Config
	pages, err := web.New(web.Settings{Hostname: c.Hostname, Dev: c.DevMode, Spoke: s.spoke, Brand: web.Brand{
		Name: c.Service(), HomeURL: c.HomeURL, SupportURL: c.SupportURL, PrivacyURL: c.PrivacyPolicyURL, TermsURL: c.TermsOfServiceURL,
		ContactEmail: c.ContactEmail, LogoURL: c.LogoURL, BackgroundLightURL: c.BackgroundLightURL, BackgroundDarkURL: c.BackgroundDarkURL,
		Primary: c.PrimaryColor, Error: c.ErrorColor, Warning: c.WarningColor, Info: c.InfoColor, Success: c.SuccessColor,
	}})
	if err != nil {
		return err
	}
	s.devices = &device.Service{Store: s.stores.Devices, Now: s.opts.Now, Doubt: s.clock.Check, Log: s.opts.Log}
	s.admin.Browsers = s.devices.List
	s.site = &web.Site{
		Pages:    pages,
		Browsers: &web.Browsers{Devices: s.devices, Origin: s.URL, Dev: c.DevMode, Key: box.Derive("tokens of forms")},
	}
	s.accountPages = &web.AccountPages{
		Site: s.site, Accounts: s.stores.Accounts, SignIns: s.signIns, Sessions: s.sessions, Hosting: s.hosting, Emails: s.emails,
		Codes: s.codes, AppPasswords: s.appPasswords, OAuth: s.oauth, Exports: s.exports(), Arrived: s.sessions.Arrived, Box: box,
		SignUp: signUpRules(c), Now: s.opts.Now,
	}
	s.oauth.Locales = pages.Languages()
	flow := &web.FlowPages{AccountPages: s.accountPages}
	s.site.Routes = slices.Concat(s.accountPages.PageRoutes(), flow.FlowRoutes())
	return nil
}

// spoke keeps the language of an account's last page for its mails. It fails no request.
func (s *Server) spoke(ctx context.Context, did, language string) {
	a, err := s.stores.Accounts.ByDID(ctx, syntax.DID(did))
	if err == nil && a.Language != language {
		err = s.stores.Accounts.SetLanguage(ctx, a.ID, language)
	}
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		request.Note(ctx, slog.String("language", err.Error()))
	}
}

// signUpRules returns the operator's rules of sign-ups.
func signUpRules(c *config.Config) web.SignUpRules {
	r := web.SignUpRules{
		Policy: c.Signup, NeedsInvite: c.InviteRequired, Domains: c.HandleDomains, Terms: c.TermsOfServiceURL != "" || c.PrivacyPolicyURL != "",
	}
	if c.HCaptchaSiteKey != "" {
		r.Captcha = &web.Captcha{
			SiteKey: c.HCaptchaSiteKey, SecretKey: c.HCaptchaSecretKey.Reveal(), TokenSalt: c.HCaptchaTokenSalt.Reveal(),
			URL: web.CaptchaURL, Client: &http.Client{},
		}
	}
	return r
}

// people returns the handler of the pages for people, which counts against the limit over
// everything.
func (s *Server) people() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.admit(r.Context(), r); err != nil {
			web.SecureHeaders(w.Header(), r, s.opts.Config.DevMode)
			s.site.Fail(w, r, err)
			return
		}
		s.site.ServeHTTP(w, r)
	})
}
