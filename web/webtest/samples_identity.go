package webtest

import (
	"time"

	"nestbox/web"
)

// Rotation keys of the samples.
const (
	ownKey      = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
	operatorKey = "did:key:zQ3shcoHrjqYtXszc2LP7cS5Y2ZCxnvLbXmHhKPEvTpcfLNrC"
	serverKey   = "did:key:zQ3shhCGUqDKjStzuDxPkTxN6ujddP4RkEKJJouJGRRkaLGbg"
	otherKey    = "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"
)

// identities are the pages of who controls an account's number.
func identities() []Sample {
	path := "/account/u/" + did + "/identity"
	server := web.KeyRow{Key: serverKey, Holder: "server", Since: at(500 * day)}
	operator := web.KeyRow{Key: operatorKey, Holder: "operator", Owns: true, Since: at(500 * day)}
	mine := web.KeyRow{Key: ownKey, Holder: "owner", Owns: true, Since: at(2 * day), Added: at(2 * day)}
	other := web.KeyRow{Key: otherKey, Holder: "unknown", Since: at(80 * day)}
	byServer, byOther := web.Msg("identity.by-server"), web.Msg("identity.by-unknown", "key", web.Codes{"zDnaem…qf8HQo"})
	steps := []web.IdentityStep{
		{
			At: at(2 * day), Changes: []web.Text{web.Msg("identity.key-added", "key", web.Msg("identity.by-owner", "key", web.Codes{"zDnaer…FU2169"}))},
			By: web.Msg("identity.signed", "key", byServer), Undo: web.Msg("identity.undo", "time", at(-day), "keys", web.List{web.Msg("identity.by-operator")}),
		},
		{
			At: at(80 * day), Changes: []web.Text{web.Msg("identity.handle-changed", "old", web.Host(long), "new", web.Host("xn--mnchen-3ya.example")), web.Msg("identity.host-changed", "old", web.Name("https://"+longApp().Host), "new", web.Name("https://pds.example.com"))},
			By: web.Msg("identity.signed", "key", byOther),
		},
		{At: at(81 * day), Changes: []web.Text{web.Msg("identity.service-changed", "name", web.Name("bsky_labeler"))}, By: web.Msg("identity.signed", "key", byServer), Undone: true},
		{At: at(500 * day), Changes: []web.Text{web.Msg("identity.first", "handle", web.Host("alice.example.com"), "server", web.Name("https://pds.example.com"))}, By: web.Msg("identity.signed", "key", byServer)},
	}
	const head = "bafyreiaia4aivilf6udqvv3xsfoz4shng5j5dhsi2yfyraludx54g7xrcy"
	full := web.Identity{Keys: []web.KeyRow{mine, operator, server, other}, Ours: true, Fits: true, Steps: steps, Total: 54, Head: head}
	made := func(frame web.Frame, change func(*web.Identity)) *web.Identity {
		page := full
		page.Frame = frame
		change(&page)
		return &page
	}
	done := of(alice(), "identity")
	done.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.identity")}}
	marked := func(k web.KeyRow, mark string) web.KeyRow {
		k.Mark = mark
		return k
	}
	document := "{\n  \"@context\": [\"https://www.w3.org/ns/did/v1\"],\n  \"id\": \"did:web:" + long + "\"\n}"
	return []Sample{
		{"identity", path, 200, made(done, func(*web.Identity) {})},
		{"identity-new", path, 200, made(of(alice(), "identity"), func(p *web.Identity) {
			p.Keys, p.Steps, p.Total = []web.KeyRow{server}, steps[3:], 1
		})},
		{"identity-wrong", path, 422, made(of(alice(), "identity", wrong("key", "identity.key-private")), func(p *web.Identity) { p.Above = true })},
		{"identity-full", path, 200, made(of(alice(), "identity"), func(p *web.Identity) { p.Full, p.LogMissing = true, true })},
		{"identity-moved", path, 409, made(of(&web.Account{DID: did, Handle: long}, "identity", wrong("", "identity.moved")), func(*web.Identity) {})},
		{"identity-unfit", path, 200, made(of(&web.Account{DID: did, Deactivated: true}, "identity"), func(p *web.Identity) { p.Fits = false })},
		{"identity-lost", path, 200, made(of(alice(), "identity"), func(p *web.Identity) { p.Ours, p.Keys = false, []web.KeyRow{other} })},
		{"identity-silent", path, 503, &web.Identity{Frame: of(alice(), "identity", wrong("", "identity.unreached")), Silent: true}},
		{"identity-ended", path, 200, &web.Identity{Frame: of(alice(), "identity"), Ended: true}},
		{"identity-web", path, 200, &web.Identity{Frame: of(alice(), "identity"), Document: document}},
		{"identity-add", path, 200, &web.IdentityChange{
			Frame: of(alice(), "identity"), Change: "add", Key: ownKey, Place: "above", Head: head, Keys: []web.KeyRow{marked(mine, "added"), operator, server},
			Warnings: []web.Text{web.Msg("identity.warn-above"), web.Msg("identity.warn-yours")}, Host: "https://pds.example.com", Danger: true,
		}},
		{"identity-remove", path, 200, &web.IdentityChange{
			Frame: of(&web.Account{DID: did, Handle: long}, "identity"), Change: "remove", Key: operatorKey, Head: head, Keys: []web.KeyRow{marked(operator, "removed"), server, other},
			Warnings: []web.Text{web.Msg("identity.warn-remove-above", "time", at(-3*day).Truncate(time.Minute)), web.Msg("identity.warn-remove-operator"), web.Msg("identity.warn-remove")},
			Host:     "https://" + longApp().Host, Danger: true,
		}},
	}
}
