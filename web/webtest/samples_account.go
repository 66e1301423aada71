package webtest

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"slices"
	"time"

	"nestbox/web"
)

func of(a *web.Account, part string, problems ...web.Problem) web.Frame {
	f := place(a.Path(part), problems...)
	f.Account = a
	return f
}

func accounts() []Sample {
	done := place("/account")
	done.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.signed-out")}}
	sessions, apps := "/account/u/"+did+"/sessions", "/account/u/"+did+"/apps"
	gone := alice()
	gone.Deactivated = true
	odd := &web.Account{DID: did, Handle: long}
	return []Sample{
		{"accounts", "/account", 200, &web.Accounts{Frame: done, Accounts: []web.SignedIn{
			{Account: *alice(), Since: at(2 * day)},
			{Account: web.Account{DID: "did:web:bob.example", Handle: "bob.example", Deactivated: true}, Since: at(40 * day)},
			{Account: web.Account{DID: did, Handle: long}, Since: at(0)},
			{Account: web.Account{DID: did}, Stale: true},
		}}},
		{"accounts-one", "/account", 200, &web.Accounts{Frame: place("/account"), Accounts: []web.SignedIn{{Account: *alice(), Since: at(2 * day)}}}},
		{"accounts-none", "/account", 200, &web.Accounts{Frame: place("/account")}},
		{"sessions", sessions, 200, &web.Sessions{Frame: of(alice(), "sessions"), Counts: counts(), Rows: sessionRows(), Ended: ended(), MoreEnded: true}},
		{"sessions-odd", sessions, 200, &web.Sessions{Frame: of(odd, "sessions"), Counts: counts(), Kind: web.OAuthSession, Rows: oddRows()}},
		{"sessions-many", sessions, 200, &web.Sessions{Frame: of(alice(), "sessions"), Counts: counts(), Rows: manyRows(), Pager: pager(sessions), Ended: slices.Repeat(ended(), 4)}},
		{"sessions-none", sessions, 200, &web.Sessions{Frame: of(gone, "sessions"), Kind: web.AppPasswordSession}},
		{"apps", apps, 200, &web.Apps{Frame: of(alice(), "apps"), Apps: connected()}},
		{"apps-many", apps, 200, &web.Apps{Frame: of(alice(), "apps"), Apps: slices.Repeat(connected(), 2), Pager: pager(apps)}},
		{"apps-one", apps, 200, &web.Apps{Frame: of(alice(), "apps"), Apps: connected()[:1], One: true}},
		{"apps-none", apps, 200, &web.Apps{Frame: of(alice(), "apps")}},
	}
}

// counts are those of an old account.
func counts() map[web.SessionKind]int {
	return map[web.SessionKind]int{web.OAuthSession: 140, web.PasswordSession: 41, web.AppPasswordSession: 12, web.BrowserSession: 7}
}

func pager(path string) web.Pager {
	return web.Pager{Page: 2, Pages: 7, Newer: path + "?page=1", Older: path + "?page=3"}
}

// manyRows fill a page.
func manyRows() []web.SessionRow {
	rows := append(sessionRows(), oddRows()...)
	return slices.Repeat(rows, 4)[:30]
}

func sessionRows() []web.SessionRow {
	return []web.SessionRow{
		{Kind: web.BrowserSession, Ref: "browser 1", Name: "Firefox on Linux", This: true, May: []web.Text{web.Msg("may.pages")}, Network: "192.0.2.0/24", Made: at(3 * day), Used: at(time.Minute), EndsAt: at(-30 * day), TrustedUntil: at(-20 * day)},
		{
			Kind: web.OAuthSession, Ref: "session 12", ClientID: "https://statusphere.example.net/oauth-client-metadata.json", Name: "statusphere.example.net", Confidential: true,
			May: []web.Text{web.Msg("may.repo-all", "collections", web.Codes{"xyz.statusphere.status"}), web.Msg("may.blob", "kinds", web.Msg("blob.image"))}, MayMore: 3,
			Network: "2001:db8:1234::/48", Made: at(40 * day), Used: at(2 * time.Hour), EndsAt: at(-690 * day),
		},
		{Kind: web.PasswordSession, Ref: "session 13", Name: "Bluesky for iOS", May: []web.Text{web.Msg("may.everything")}, Network: "198.51.100.0/24", Made: at(200 * day), Used: at(5 * time.Hour), EndsAt: at(-90 * day)},
		{Kind: web.AppPasswordSession, Ref: "session 14", Name: "my-bot", Detail: "python-requests/2.32", May: []web.Text{web.Msg("may.app-password")}, Made: at(10 * day)},
	}
}

func oddRows() []web.SessionRow {
	return []web.SessionRow{
		{Kind: web.PasswordSession, Ref: "session 17", Name: "unknown", May: []web.Text{web.Msg("may.everything")}, Made: at(60 * day), Used: at(9 * day), EndsAt: at(-80 * day)},
		{Kind: web.OAuthSession, Ref: "session 15", ClientID: longApp().ID, Name: longApp().Host, May: []web.Text{web.Msg("may.repo-create", "collections", web.Codes{long, "a.b.c"}), web.Msg("may.identity-all")}, Network: "2001:db8:1234:5678::/64", Made: at(time.Hour), Used: at(time.Hour), EndsAt: at(-14 * day)},
		{Kind: web.AppPasswordSession, Ref: "session 16", Name: arabic, Detail: hostile, May: []web.Text{web.Msg("may.app-password-privileged")}, Network: "192.0.2.0/24", Made: at(time.Hour), Used: at(0), EndsAt: at(-90 * day)},
		{Kind: web.PasswordSession, Ref: "session 17", Name: emoji, May: []web.Text{web.Msg("may.everything")}, Made: at(time.Hour), EndsAt: at(-90 * day)},
		{Kind: web.PasswordSession, Ref: "session 18", Name: "Mozilla/5.0(X11;Linux_x86_64)AppleWebKit/537.36(KHTML,like_Gecko)HeadlessChrome/156", Made: at(time.Hour), EndsAt: at(-90 * day)},
	}
}

func ended() []web.EndedSession {
	return []web.EndedSession{
		{Subject: web.Subject{Kind: web.PasswordSession, Name: "Bluesky for Android"}, Network: "203.0.113.0/24", At: at(3 * day), Why: web.Msg("why.password-owner"), Event: "/account/u/" + did + "/events?at=1#e1"},
		{Subject: web.Subject{Kind: web.OAuthSession, Name: longApp().Host}, At: at(9 * day), Why: web.Msg("why.revoked-server"), Event: "/account/u/" + did + "/events?at=2#e2"},
	}
}

func connected() []web.App {
	trusted, claimed := app(), app()
	trusted.Name, claimed.Claimed = emoji, "Statusphere"
	return []web.App{
		{
			Client: *claimed, Sessions: 2, Since: at(40 * day), Used: at(time.Hour), Scope: "atproto repo:xyz.statusphere.status blob:image/*",
			Permissions: []web.Permission{
				{Line: web.Msg("may.identity", "handle", web.Host("alice.example.com")), Fixed: true, Scope: "atproto"},
				{Line: web.Msg("may.repo-all", "collections", web.Codes{"xyz.statusphere.status"}), Scope: "repo:xyz.statusphere.status"},
				{Line: web.Msg("may.blob", "kinds", web.Msg("blob.image")), Scope: "blob:image/*"},
			},
			Denied: []web.Permission{{Line: web.Msg("may.email")}, {Line: web.Msg("may.identity-all"), Broad: true}},
		},
		{Client: *trusted, Sessions: 1, Since: at(time.Hour), Scope: "atproto transition:generic", Permissions: []web.Permission{{Line: web.Msg("may.generic"), Detail: web.Msg("may.generic-detail"), Broad: true}}},
		{Client: *longApp(), Sessions: 12, Since: at(time.Hour), Permissions: []web.Permission{{Line: web.Msg("may.set", "title", web.Stranger(arabic)), Publisher: longApp().Host}}},
		{Client: web.Client{ID: "http://localhost", Loopback: true}, Sessions: 1, Since: at(time.Hour), Permissions: []web.Permission{{Line: web.Msg("may.identity", "handle", web.Host("alice.example.com"))}}},
	}
}

func security() []Sample {
	path := "/account/u/" + did + "/security"
	done := of(alice(), "security")
	done.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.totp-on")}}
	wrongCode := of(alice(), "security")
	wrongCode.Problems = []web.Problem{wrong("code", "factor.wrong")}
	codes := []string{"K7QX2-M4PAB", "ZX3CV-9RTYU", "QWE2R-TYU7I", "ASD4F-GHJ6K", "ZXC5V-BNM3L", "PLM7O-KNI2J", "UHB4Y-GVT6F", "CRD5X-ESZ3W", "AQW2S-XED4C", "RFV7T-GBY5H"}
	const secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
	return []Sample{
		{"security-off", path, 200, &web.Security{Frame: of(alice(), "security"), AppsByPassword: true, PasskeysElsewhere: true, NoMail: true}},
		{"security-on", path, 200, &web.Security{
			Frame: done, TOTP: &web.TOTPState{Since: at(90 * day), Used: at(day)}, Codes: 2, CodesMade: at(90 * day), EmailCodes: true, DangerousFactor: true, PasskeySecond: true, Trusted: 2,
			Passkeys: []web.PasskeyRow{
				{ID: "1", Name: "iCloud Keychain", Made: at(30 * day), Used: at(day), Network: "192.0.2.0/24", Synced: true},
				{ID: "2", Name: arabic, Made: at(30 * day)},
				{ID: "3", Name: hostile, Made: at(30 * day)},
			},
			Actions: []web.SecurityAction{{Text: web.Msg("action.passkey-added", "name", web.Stranger(hostile)), At: at(30 * day), Network: "192.0.2.0/24", Program: "Firefox on Linux"}, {Text: web.Msg("action.by-operator", "action", web.Msg("action.turned-off", "setting", web.Msg("security.apps-by-password"))), At: at(90 * day), Network: "2001:db8:1234::/48", Program: hostile}},
		}},
		{"totp-setup", path, 200, &web.TOTPSetup{Frame: of(alice(), "security"), Setup: "c2VhbGVk", QR: picture(), Secret: secret, URL: "otpauth://totp/Example:alice.example.com?secret=" + secret + "&issuer=Example"}},
		{"totp-setup-wrong", path, 422, &web.TOTPSetup{Frame: wrongCode, Setup: "c2VhbGVk", QR: picture(), Secret: secret, URL: "otpauth://totp/Example:alice.example.com?secret=" + secret + "&issuer=Example", Replaces: true}},
		{"recovery-codes", path, 200, &web.RecoveryCodes{Frame: of(alice(), "security"), Codes: codes, First: true}},
		{"passkey-add", path, 200, &web.PasskeyAdd{Frame: of(alice(), "security"), Passkey: web.Passkey{Options: creation, Ceremony: "c2VhbGVk"}}},
	}
}

// picture stands for a QR code: squares in black and white.
func picture() []byte {
	img := image.NewGray(image.Rect(0, 0, 200, 200))
	for y := range 200 {
		for x := range 200 {
			v := uint8(255)
			if (x/8*7+y/8*13+(x/8)*(y/8))%3 == 0 {
				v = 0
			}
			img.SetGray(x, y, color.Gray{Y: v})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, img); err != nil {
		panic(err) // memory takes everything
	}
	return out.Bytes()
}
