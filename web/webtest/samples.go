// Package webtest has a sample of every page with the data that pages meet: usual, long,
// from right to left, emoji, empty, and with errors. The tests of web render each,
// e2e/browser looks at each in a browser.
package webtest

import (
	"net/http"
	"slices"
	"time"

	"nestbox/web"
)

// Sample is a page with its data.
type Sample struct {
	// Name is unique: page and case.
	Name string
	// Path is where the page is served: it decides the headers.
	Path   string
	Status int
	Page   web.Page
}

// Samples returns all samples, in the order in which a person meets the pages.
func Samples() []Sample {
	var all []Sample
	for _, some := range [][]Sample{
		signIn(), factors(), consents(), signUps(), messages(), accounts(), manage(), handles(), identities(), about(), lists(), security(), desks(), loads(), storages(), deskLists(),
	} {
		all = append(all, some...)
	}
	return all
}

const (
	authorize = "/oauth/authorize"
	did       = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
	options   = `{"publicKey":{"challenge":"c2FtcGxlLWNoYWxsZW5nZS1zYW1wbGU","rpId":"localhost","userVerification":"required","timeout":300000}}`
	creation  = `{"publicKey":{"challenge":"c2FtcGxlLWNoYWxsZW5nZS1zYW1wbGU","rp":{"id":"localhost","name":"Nestbox"},"user":{"id":"c2FtcGxl","name":"alice.example.com","displayName":"alice.example.com"},"pubKeyCredParams":[{"type":"public-key","alg":-7}],"authenticatorSelection":{"residentKey":"required","userVerification":"required"},"attestation":"none"}}`
	// long is a handle of 253 characters, the longest there can be.
	long = "extraordinarily-long-handle-that-somebody-chose-for-the-fun-of-it.another-label-that-is-as-long-as-labels-may-be-in-the-dns.and-one-more-of-these-labels-because-there-is-room-for-it.and-the-last-of-them-with-the-suffix-of-the-server.pds.example.com"
	// arabic, emoji and hostile are names that strangers chose.
	arabic  = "مدونة الطيور المهاجرة"
	emoji   = "👩🏽‍🚀 Łódź 🪺 notes 🇩🇪"
	hostile = "Bank\u202egpj.exe <script>alert(1)</script> & a very long name that goes on and on and on"
)

// at is the time of the samples.
func at(ago time.Duration) time.Time {
	return time.Date(2026, time.November, 29, 14, 5, 0, 0, time.UTC).Add(-ago)
}

const day = 24 * time.Hour

func alice() *web.Account { return &web.Account{DID: did, Handle: "alice.example.com"} }

func app() *web.Client {
	return &web.Client{
		ID: "https://statusphere.example.net/oauth-client-metadata.json", Host: "statusphere.example.net",
		TermsURL: "https://statusphere.example.net/terms", PolicyURL: "https://statusphere.example.net/privacy",
	}
}

func longApp() *web.Client {
	return &web.Client{
		ID:   "https://a-very-long-name-of-an-application.subdomain-of-a-company.xn--mnchen-3ya.example/oauth/clients/production/europe/client-metadata.json?version=2026-11-29&channel=stable",
		Host: "a-very-long-name-of-an-application.subdomain-of-a-company.xn--mnchen-3ya.example",
	}
}

func flow(c *web.Client, problems ...web.Problem) web.Frame {
	return web.Frame{
		Form: web.Form{Action: authorize, Flow: "c2VhbGVk"}, Client: c, Problems: problems,
		Self: authorize + "?client_id=x&request_uri=y",
	}
}

func place(path string, problems ...web.Problem) web.Frame {
	return web.Frame{Form: web.Form{Action: path, CSRF: "dG9rZW4"}, Problems: problems}
}

func wrong(field, id string, args ...any) web.Problem {
	return web.Problem{Field: field, Text: web.Msg(id, args...)}
}

func signIn() []Sample {
	key := &web.Passkey{Options: options, Ceremony: "c2VhbGVk", Conditional: true}
	noticed := flow(app())
	noticed.Notices = []web.Notice{{Kind: web.Info, Text: web.Msg("signin.hint-unknown", "account", web.Stranger("bob.elsewhere.example"))}}
	done := place("/account/sign-in")
	done.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.reset")}}
	deleted := flow(app())
	deleted.Account = alice()
	return []Sample{
		{"signin", "/account/sign-in", 200, &web.SignIn{Frame: place("/account/sign-in"), OfferSignUp: true, Passkey: key, Remember: true}},
		{"signin-done", "/account/sign-in", 200, &web.SignIn{Frame: done, Identifier: "alice.example.com", Passkey: key}},
		{"signin-app", authorize, 200, &web.SignIn{Frame: flow(app()), OfferSignUp: true, Passkey: key}},
		{"signin-hint", authorize, 200, &web.SignIn{Frame: noticed, Identifier: "bob.elsewhere.example"}},
		{"signin-fixed-long", authorize, 200, &web.SignIn{Frame: flow(longApp()), Identifier: long, Fixed: true, Passkey: key}},
		{"signin-wrong", authorize, 422, &web.SignIn{Frame: flow(app(), wrong("password", "signin.wrong")), Identifier: "alice.example.com", OfferSignUp: true, Passkey: key}},
		{"signin-empty", "/account/sign-in", 422, &web.SignIn{Frame: place("/account/sign-in", wrong("identifier", "signin.identifier-missing"), wrong("password", "signin.password-missing")), OfferSignUp: true}},
		{"chooser", authorize, 200, &web.Chooser{Frame: flow(app()), Accounts: []web.ChooserAccount{
			{Account: *alice()}, {Account: web.Account{DID: "did:web:bob.example", Handle: "bob.example"}, Stale: true},
		}}},
		{"chooser-long", authorize, 200, &web.Chooser{Frame: flow(longApp()), Accounts: []web.ChooserAccount{
			{Account: web.Account{DID: did, Handle: long}}, {Account: web.Account{DID: did}}, {Account: web.Account{DID: did, Handle: "xn--mnchen-3ya.example"}, Stale: true},
		}}},
		{"deactivated", authorize, 200, &web.Deactivated{Frame: deleted, DeleteAt: at(-9 * day)}},
	}
}

func factors() []Sample {
	with := func(problems ...web.Problem) web.Frame {
		f := flow(app(), problems...)
		f.Account = alice()
		return f
	}
	back := place("/account/u/"+did+"/security", wrong("password", "password.wrong"))
	back.Account = alice()
	key := &web.Passkey{Options: options, Ceremony: "c2VhbGVk"}
	return []Sample{
		{"factor-totp", authorize, 200, &web.Factor{Frame: with(), Method: web.TOTP, Others: []web.Method{web.Key, web.Email, web.Recovery}, OfferTrust: true}},
		{"factor-email", authorize, 200, &web.Factor{Frame: with(), Method: web.Email, Address: "a…@example.com", Others: []web.Method{web.TOTP}}},
		{"factor-recovery", authorize, 200, &web.Factor{Frame: with(), Method: web.Recovery, OfferTrust: true}},
		{"factor-passkey", authorize, 200, &web.Factor{Frame: with(), Method: web.Key, Passkey: key, Others: []web.Method{web.Recovery}, OfferTrust: true}},
		{"factor-wrong", authorize, 422, &web.Factor{Frame: with(wrong("code", "factor.expired")), Method: web.TOTP, Left: 3, Others: []web.Method{web.Email}, OfferTrust: true, Trust: true}},
		{"stepup-password", "/account/u/" + did + "/security", 422, &web.StepUp{Frame: back, For: web.Msg("act.password"), Password: true, Kept: "c2VhbGVk", Back: "/account"}},
		{"stepup-stuck", "/account/u/" + did + "/codes", 409, &web.StepUp{Frame: place("/account/u/" + did + "/codes"), For: web.Msg("act.codes"), Stuck: &web.Stuck{NoAddress: true}, Back: "/account"}},
		{"stepup-totp", "/account/u/" + did + "/security", 200, &web.StepUp{Frame: place("/account/u/" + did + "/security"), For: web.Msg("act.security"), Password: true, Method: web.TOTP, Others: []web.Method{web.Recovery}, Passkey: key, Back: "/account"}},
		{"stepup-passkey", "/account/u/" + did + "/security", 200, &web.StepUp{Frame: place("/account/u/" + did + "/security"), For: web.Msg("act.security"), Method: web.Key, Others: []web.Method{web.TOTP}, Passkey: key, Back: "/account"}},
	}
}

func consents() []Sample {
	with := func(c *web.Client, problems ...web.Problem) web.Frame {
		f := flow(c, problems...)
		f.Account = alice()
		return f
	}
	identity := web.Permission{Scope: "atproto", Line: web.Msg("may.identity", "handle", web.Host("alice.example.com")), Fixed: true}
	posts := web.Permission{Scope: "repo:xyz.statusphere.status", Line: web.Msg("may.repo-all", "collections", web.Codes{"xyz.statusphere.status"}), Ticked: true}
	set := web.Permission{
		Scope: "include:app.bsky.authCreatePosts", Line: web.Msg("may.set", "title", web.Stranger("Create posts")), Detail: web.Msg("may.set", "title", web.Stranger("Create text, image and video posts for your account.")),
		Publisher: "bsky.app", Ticked: true, Members: []string{"repo:app.bsky.feed.post?action=create", "repo:app.bsky.feed.threadgate?action=create", "rpc:app.bsky.video.getUploadLimits?aud=*"},
	}
	blob := web.Permission{Scope: "blob:image/*", Line: web.Msg("may.blob", "kinds", web.Msg("blob.image")), Ticked: true}
	call := web.Permission{Scope: "rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app#bsky_appview", Line: web.Msg("may.rpc", "methods", web.Codes{"app.bsky.feed.getTimeline"}, "service", web.Codes{"did:web:api.bsky.app#bsky_appview"}), Ticked: true}
	takeover := web.Permission{Scope: "identity:*", Line: web.Msg("may.identity-all"), Danger: true, Ticked: true}
	replace := web.Permission{Scope: "account:repo?action=manage", Line: web.Msg("may.account-repo-manage"), Danger: true}
	var lots []web.Permission
	for range 12 {
		lots = append(lots, call, posts, web.Permission{Scope: "repo:" + long, Line: web.Msg("may.repo-create", "collections", web.Codes{long, "a.b.c", "a.b.d", "a.b.e", "a.b.f", "a.b.g", "a.b.h"}), Ticked: true})
	}
	large := set
	large.Members = slices.Repeat([]string{"rpc:app.bsky.actor.getPreferences?aud=*"}, 2000)
	trusted := app()
	trusted.Name, trusted.URI, trusted.LogoURL = emoji, "https://statusphere.example.net/", web.AssetPath+"logo"
	return []Sample{
		{"consent", authorize, 200, &web.Consent{Frame: with(app()), Permissions: []web.Permission{identity, posts, set, blob, call}}},
		{"consent-identity", authorize, 200, &web.Consent{Frame: with(app()), Permissions: []web.Permission{identity}}},
		{"consent-generic", authorize, 200, &web.Consent{Frame: with(trusted), Permissions: []web.Permission{
			identity,
			{Scope: "transition:generic", Line: web.Msg("may.generic"), Detail: web.Msg("may.generic-detail"), Fixed: true, Broad: true},
			{Scope: "transition:chat.bsky", Line: web.Msg("may.chat"), Fixed: true},
			{Scope: "account:email", Line: web.Msg("may.email"), Ticked: true},
		}}},
		{"consent-danger", authorize, 422, &web.Consent{
			Frame: with(app(), wrong("understood", "consent.understood-missing")), Permissions: []web.Permission{identity, takeover, replace},
			Destination: "callback.other.example", Unknown: []string{"video:upload", "openid"},
		}},
		{"consent-large-set", authorize, 200, &web.Consent{Frame: with(app()), Permissions: []web.Permission{identity, large}}},
		{"consent-loopback", authorize, 200, &web.Consent{Frame: with(&web.Client{ID: "http://localhost/?scope=atproto", Loopback: true}), Permissions: []web.Permission{identity, posts}}},
		{"consent-long", authorize, 200, &web.Consent{Frame: with(longApp()), Permissions: append([]web.Permission{identity, {Scope: "repo:*", Line: web.Msg("may.repo-any-all"), Broad: true, Ticked: true}}, lots...), Unknown: []string{long}}},
		{"consent-rtl", authorize, 200, &web.Consent{Frame: with(&web.Client{ID: "https://xn--ngbc5azd.example/c.json", Host: "xn--ngbc5azd.example", Name: arabic}), Permissions: []web.Permission{
			identity, {Scope: "include:a.b.c", Line: web.Msg("may.set", "title", web.Stranger(arabic)), Detail: web.Msg("may.set", "title", web.Stranger(hostile)), Publisher: "xn--ngbc5azd.example", Ticked: true, Members: []string{"repo:a.b.d"}},
		}}},
	}
}

func signUps() []Sample {
	domains := []string{".pds.example.com"}
	several := []string{".pds.example.com", ".a-long-domain-of-this-server.example.org"}
	const path = "/account/sign-up"
	wrongAll := place(path, wrong("invite", "signup.invite-wrong"), wrong("handle", "signup.handle-taken"), wrong("email", "signup.email-invalid"), wrong("password", "password.common"), wrong("terms", "signup.terms-missing"))
	welcome := place(path)
	welcome.Account = alice()
	reset := place("/account/reset-password")
	return []Sample{
		{"signup", path, 200, &web.SignUp{Frame: place(path), Policy: "open", Domains: domains}},
		{"signup-app", authorize, 200, &web.SignUp{Frame: flow(app()), Policy: "invite", NeedsInvite: true, Domains: several, Handle: "alice", Free: true, Domain: several[1]}},
		{"signup-wrong", path, 422, &web.SignUp{Frame: wrongAll, Policy: "invite", NeedsInvite: true, Invite: "pds-example-com-abcde-fghij", Handle: "alice", Domains: domains, Email: "alice@", CaptchaKey: "10000000-ffff-ffff-ffff-000000000001"}},
		{"signup-closed", path, 200, &web.SignUp{Frame: place(path), Policy: "closed"}},
		{"signup-moving", authorize, 200, &web.SignUp{Frame: flow(app()), Policy: "migration-only"}},
		{"welcome", path, 200, &web.Welcome{Frame: welcome, Email: "alice@example.com", Passkeys: true}},
		{"reset", "/account/reset-password", 200, &web.Reset{Frame: reset}},
		{"reset-wrong", "/account/reset-password", 422, &web.Reset{Frame: place("/account/reset-password", wrong("email", "signup.email-invalid")), Email: emoji}},
		{"reset-no-mail", "/account/reset-password", 200, &web.Reset{Frame: reset, NoMail: true}},
		{"reset-code", "/account/reset-password", 200, &web.ResetCode{Frame: reset, Sent: true}},
		{"reset-code-wrong", "/account/reset-password", 422, &web.ResetCode{Frame: place("/account/reset-password", wrong("code", "reset.code-wrong"), wrong("new_password", "password.short")), Code: "ABCDE-23456"}},
	}
}

func messages() []Sample {
	gone := web.Frame{}
	confirm := place("/account/u/" + did + "/sessions")
	confirm.Account = alice()
	return []Sample{
		{"link-not-valid", authorize, 400, &web.Message{Frame: gone, Kind: web.Failure, Title: web.Msg("error.link-title"), Body: []web.Text{web.Msg("error.link-body")}}},
		{"must-push", authorize, 400, &web.Message{Frame: gone, Kind: web.Failure, Title: web.Msg("error.push-title"), Body: []web.Text{web.Msg("error.push-body")}, Detail: "invalid_request: this app must push its request first (RFC 9126)"}},
		{"answered", authorize, 200, &web.Message{Frame: gone, Kind: web.Success, Title: web.Msg("error.answered-title"), Body: []web.Text{web.Msg("error.answered-body")}, Links: []web.Link{{URL: "https://statusphere.example.net/callback?code=x", Text: web.Msg("error.answered-link", "app", web.Host("statusphere.example.net")), External: true}}}},
		{"answered-long", authorize, 200, &web.Message{Frame: gone, Title: web.Msg("error.answered-title"), Body: []web.Text{web.Msg("error.answered-other")}, Links: []web.Link{{URL: "https://example.net/", Text: web.Msg("error.answered-link", "app", web.Host(longApp().Host)), Away: true}}}},
		{"too-many", "/account/sign-in", http.StatusTooManyRequests, &web.Message{Frame: gone, Kind: web.Warning, Title: web.Msg("error.many-title"), Body: []web.Text{web.Msg("error.many-body", "time", web.Msg("time.minutes", "count", 1))}, Links: []web.Link{{URL: "/account/sign-in", Text: web.Msg("error.retry")}}}},
		{"unavailable", "/account", http.StatusServiceUnavailable, &web.Message{Frame: gone, Kind: web.Failure, Title: web.Msg("error.busy-title"), Body: []web.Text{web.Msg("error.busy-body", "time", web.Msg("time.minutes", "count", 2))}}},
		{"formpost", authorize, 200, &web.FormPost{Frame: flow(app()), To: "/sample-callback", Host: "statusphere.example.net", Fields: []web.Field{{Name: "code", Value: "x"}, {Name: "iss", Value: "https://pds.example.com"}, {Name: "state", Value: "y"}}}},
		{"confirm", "/account/u/" + did + "/sessions", 200, &web.Confirm{Frame: confirm, Title: web.Msg("confirm.app", "name", web.Host("statusphere.example.net")), Body: []web.Text{web.Msg("confirm.app-body")}, Button: web.Msg("confirm.app-button"), Danger: true, Fields: []web.Field{{Name: "client_id", Value: "x"}}, Back: "/account"}},
		{"confirm-factor", "/account/u/" + did + "/security", 200, &web.Confirm{Frame: confirm, Title: web.Msg("confirm.passkey", "name", web.Stranger(hostile)), Body: []web.Text{
			web.Msg("confirm.passkey-body"), web.Msg("confirm.lose-second"), web.Msg("confirm.lose-passkey-second"), web.Msg("confirm.lose-dangerous"), web.Msg("confirm.lose-recovery"),
		}, Button: web.Msg("confirm.passkey-button"), Danger: true, Fields: []web.Field{{Name: "ending", Value: "remove"}, {Name: "passkey", Value: "1"}}, Back: "/account"}},
		{"confirm-long", "/account/u/" + did + "/sessions", 200, &web.Confirm{Frame: confirm, Title: web.Msg("confirm.session", "name", web.Stranger(hostile)), Body: []web.Text{web.Msg("confirm.session-body")}, Button: web.Msg("confirm.session-button"), Back: "/account"}},
	}
}
