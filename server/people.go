package server

import (
	"net/http"
	"slices"

	"nestbox/config"
	"nestbox/device"
	"nestbox/internal/seal"
	"nestbox/web"
)

// buildPeople wires the pages for people: the site, which has defences of its own that no
// route can forget, and none of the API's.
func (s *Server) buildPeople(box *seal.Box) error {
	c := &s.opts.Config
	pages, err := web.New(web.Settings{Hostname: c.Hostname, Dev: c.DevMode, Brand: web.Brand{
		Name: c.ServiceName, HomeURL: c.HomeURL, SupportURL: c.SupportURL, PrivacyURL: c.PrivacyPolicyURL, TermsURL: c.TermsOfServiceURL,
		ContactEmail: c.ContactEmail, LogoURL: c.LogoURL, BackgroundLightURL: c.BackgroundLightURL, BackgroundDarkURL: c.BackgroundDarkURL,
		Primary: c.PrimaryColor, Error: c.ErrorColor, Warning: c.WarningColor, Info: c.InfoColor, Success: c.SuccessColor,
	}})
	if err != nil {
		return err
	}
	s.devices = &device.Service{Store: s.stores.Devices, Now: s.opts.Now, Doubt: s.clock.Check, Log: s.opts.Log}
	s.site = &web.Site{
		Pages:    pages,
		Browsers: &web.Browsers{Devices: s.devices, Origin: s.URL, Dev: c.DevMode, Key: box.Derive("tokens of forms")},
	}
	s.accountPages = &web.AccountPages{
		Site: s.site, Accounts: s.stores.Accounts, SignIns: s.signIns, Sessions: s.sessions, Hosting: s.hosting, Emails: s.emails,
		Codes: s.codes, Invites: s.invites, Blobs: s.stores.Blobs, Consents: s.stores.OAuth, Arrived: s.sessions.Arrived, Box: box, SignUp: signUpRules(c), Now: s.opts.Now,
		Facts: web.ServerFacts{
			DID: s.DID, Version: s.opts.Version, UploadLimit: web.Size(c.BlobUploadLimit), Quota: web.Size(c.BlobQuota),
			Domains: c.HandleDomains, Mail: s.codes.Templates != nil,
		},
	}
	s.oauth.Locales = pages.Languages()
	flow := &web.FlowPages{AccountPages: s.accountPages, OAuth: s.oauth}
	s.site.Routes = slices.Concat(s.accountPages.PageRoutes(), flow.FlowRoutes())
	return nil
}

// signUpRules returns the operator's rules of sign-ups.
func signUpRules(c *config.Config) web.SignUpRules {
	r := web.SignUpRules{
		Policy: c.Signup, NeedsInvite: c.InviteRequired, Domains: c.HandleDomains, Terms: c.TermsOfServiceURL != "" || c.PrivacyPolicyURL != "",
	}
	if c.HCaptchaSiteKey != "" {
		r.Captcha = &web.Captcha{SiteKey: c.HCaptchaSiteKey, SecretKey: c.HCaptchaSecretKey.Reveal(), URL: web.CaptchaURL, Client: &http.Client{}}
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
