package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
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
	s.disks = admin.NewExaminer(s.lookAtDisks, disksLife, s.opts.Now)
	s.admin.Browsers, s.admin.OpenBlob, s.admin.Disks = s.devices.List, s.blobs.Open, s.disks
	s.site = &web.Site{
		Pages:    pages,
		Browsers: &web.Browsers{Devices: s.devices, Origin: s.URL, Dev: c.DevMode, Key: box.Derive("tokens of forms")},
	}
	s.accountPages = &web.AccountPages{
		Site: s.site, Accounts: s.stores.Accounts, SignIns: s.signIns, Sessions: s.sessions, Hosting: s.hosting, Emails: s.emails,
		Codes: s.codes, AppPasswords: s.appPasswords, OAuth: s.oauth, Exports: s.exports(), Moving: s.moving, Invites: s.invites,
		Blobs: s.stores.Blobs, Arrived: s.sessions.Arrived, Box: box, SignUp: signUpRules(c), Now: s.opts.Now,
		Facts: web.ServerFacts{
			DID: s.DID, Version: s.opts.Version, UploadLimit: web.Bytes(c.BlobUploadLimit), Quota: web.Bytes(c.BlobQuota),
			Domains: c.HandleDomains, Mail: s.codes.Templates != nil,
		},
	}
	s.oauth.Locales = pages.Languages()
	flow := &web.FlowPages{AccountPages: s.accountPages}
	s.site.Routes = slices.Concat(s.accountPages.PageRoutes(), flow.FlowRoutes())
	if c.AdminPages {
		s.site.Routes = append(s.site.Routes, s.adminPages(box).PageRoutes()...)
	}
	return nil
}

// adminPages returns the pages below /admin.
func (s *Server) adminPages(box *seal.Box) *web.AdminPages {
	var settings []web.DeskSetting
	for _, one := range s.opts.Config.Shown(s.opts.Origins) {
		settings = append(settings, web.DeskSetting{
			Name: one.Name, Group: one.Group, Value: one.Value, Origin: string(one.Origin), Secret: one.Secret, Set: one.Set,
		})
	}
	return &web.AdminPages{
		Settings: settings, Warnings: s.opts.Warnings, Load: s.load,
		Site: s.site, Admin: s.admin, Accounts: s.stores.Accounts, SignIns: s.signIns, Box: box, Version: s.opts.Version, Started: s.opts.Now(),
		Entrance: &admin.Entrance{
			Store: s.stores.Entries, Key: box.Derive("sessions of the admin page"), Password: []byte(s.verifier.AdminPassword), Now: s.opts.Now,
			ProveAdmin: func(ctx context.Context, password string) error { return s.verifier.ProveAdmin(ctx, "admin", password) },
		},
	}
}

// shows reports whether a request is for a page for people. The admin page does not exist
// for those whom PDS_ADMIN_NETWORKS does not name.
func (s *Server) shows(r *http.Request) bool {
	if !s.site.Owns(r.URL.Path) {
		return false
	}
	networks := s.opts.Config.AdminNetworks
	if len(networks) == 0 || !strings.HasPrefix(r.URL.Path+"/", web.DeskPath) {
		return true
	}
	from := request.ClientOf(r.Context()).Addr
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(from) })
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
