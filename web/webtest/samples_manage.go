package webtest

import (
	"time"

	"nestbox/web"
)

// manage are the pages about the account itself.
func manage() []Sample {
	path := func(part string) string { return "/account/u/" + did + "/" + part }
	done := of(alice(), "manage")
	done.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.handle")}}
	gone := alice()
	gone.Deactivated, gone.DeleteAt = true, at(-20*day)
	held := alice()
	held.Suspended = true
	return []Sample{
		{"manage", path("manage"), 200, &web.Manage{
			Frame: done, HandleHolds: true, HandleChecked: at(3 * time.Hour), Email: "alice@example.com", Confirmed: true, Made: at(500 * day), Notices: true,
			Invites: []web.InviteRow{
				{Code: "pds-example-com-kz4q2-x7wam", Left: 1},
				{Code: "pds-example-com-ab3de-fgh4i", By: []web.InvitedRow{{Account: web.Account{DID: did, Handle: "bob.example.com"}, At: at(40 * day)}, {Account: web.Account{DID: did}, At: at(80 * day)}}},
			},
		}},
		{"manage-odd", path("manage"), 200, &web.Manage{
			Frame: of(&web.Account{DID: did, Handle: long}, "manage"), Email: "an-address-that-is-as-long-as-a-local-part-may-be-0123456789abcdef@" + longApp().Host, Made: at(0),
		}},
		{"manage-none", path("manage"), 200, &web.Manage{Frame: of(&web.Account{DID: did, Deactivated: true, DeleteAt: gone.DeleteAt}, "manage"), NoMail: true, Made: at(0)}},
		{"manage-suspended", path("manage"), 200, &web.Manage{Frame: of(held, "manage"), HandleHolds: true, Email: arabic + "@example.com", Confirmed: true, Made: at(0), Notices: true}},
		{"email", path("email"), 200, &web.ChangeEmail{Frame: of(alice(), "email"), Email: "alice@example.com", Confirmed: true}},
		{"email-unconfirmed", path("email"), 200, &web.ChangeEmail{Frame: of(alice(), "email"), Email: emoji + "@example.com"}},
		{"email-sent", path("email"), 200, &web.ChangeEmail{Frame: of(alice(), "email"), Email: "alice@example.com", Confirmed: true, Typed: "new@example.org", Sent: true}},
		{"email-wrong", path("email"), 422, &web.ChangeEmail{Frame: of(alice(), "email", wrong("new_code", "reset.code-wrong")), Email: "alice@example.com", Confirmed: true, Typed: "new@example.org", Sent: true}},
		{"email-no-mail", path("email"), 200, &web.ChangeEmail{Frame: of(alice(), "email"), NoMail: true}},
		{"password", path("password"), 200, &web.ChangePassword{Frame: of(alice(), "password"), NeedsCurrent: true}},
		{"password-wrong", path("password"), 422, &web.ChangePassword{Frame: of(alice(), "password", wrong("new_password", "password.common"))}},
		{"deactivate", path("deactivate"), 200, &web.Deactivate{Frame: of(alice(), "deactivate"), Soonest: "2026-12-07", Permanent: true}},
		{"deactivate-wrong", path("deactivate"), 422, &web.Deactivate{Frame: of(alice(), "deactivate", wrong("delete_on", "deactivate.date-soon")), Delete: true, Date: "2026-11-30", Soonest: "2026-12-07", Permanent: true}},
		{"deactivate-taken-down", path("deactivate"), 200, &web.Deactivate{Frame: of(&web.Account{DID: did, Handle: "alice.example.com", TakenDown: true}, "deactivate"), Soonest: "2026-12-07"}},
		{"reactivate", path("reactivate"), 200, &web.Reactivate{Frame: of(gone, "reactivate")}},
		{"reactivate-elsewhere", path("reactivate"), 409, &web.Reactivate{Frame: of(gone, "reactivate", web.Problem{Text: web.Msg("reactivate.elsewhere")})}},
		{"delete", path("delete"), 200, &web.DeleteAccount{Frame: of(alice(), "delete"), Permanent: true}},
		{"delete-wrong", path("delete"), 422, &web.DeleteAccount{Frame: of(&web.Account{DID: did, Handle: long}, "delete", wrong("code", "reset.code-wrong"), wrong("handle", "delete.handle-wrong")), Typed: "alice", Code: "ABCDE-23456", Permanent: true}},
		{"delete-held", path("delete"), 200, &web.DeleteAccount{Frame: of(held, "delete"), Held: true}},
		{"delete-no-mail", path("delete"), 200, &web.DeleteAccount{Frame: of(alice(), "delete"), NoMail: true}},
		{"delete-stuck", path("delete"), 200, &web.DeleteAccount{Frame: of(alice(), "delete"), NoMail: true, Stuck: &web.Stuck{}}},
		{"codes-stuck", path("codes"), 200, &web.ToolCodes{Frame: of(alice(), "codes"), Stuck: &web.Stuck{From: time.Date(2026, 12, 3, 9, 30, 0, 0, time.UTC)}}},
		{"codes", path("codes"), 200, &web.ToolCodes{Frame: of(alice(), "codes")}},
		{"codes-made", path("codes"), 200, &web.ToolCodes{Frame: of(alice(), "codes"), Purpose: "plc_operation", Code: "K7QX2-M4PAB", Digits: true}},
	}
}

// handles are the page of the handle, in the states of its look-ups.
func handles() []Sample {
	path := "/account/u/" + did + "/handle"
	domains := []string{".pds.example.com", ".example.org"}
	line := func(kind web.Kind, source, says string, args ...any) web.FoundLine {
		return web.FoundLine{Kind: kind, Source: web.Msg(source), Says: web.Msg(says, args...)}
	}
	return []Sample{
		{"handle", path, 200, &web.ChangeHandle{Frame: of(alice(), "handle"), Domains: domains[:1]}},
		{"handle-checked", path, 200, &web.ChangeHandle{Frame: of(alice(), "handle"), Domains: domains[:1], Look: &web.HandleFound{
			Handle: "alice.example.com", Holds: true, At: at(0),
			Lines: []web.FoundLine{line(web.Success, "found.dns", "found.yes"), line(web.Info, "found.https", "found.https-none"), line(web.Success, "found.document", "found.document-yes")},
		}}},
		{"handle-own", path, 200, &web.ChangeHandle{Frame: of(alice(), "handle"), Domains: domains, Own: "alice.example.net"}},
		{"handle-own-wrong", path, 422, &web.ChangeHandle{Frame: of(&web.Account{DID: did, Handle: long}, "handle", wrong("own", "handle.not-proven")), Domains: domains, Own: long, Web: true, Look: &web.HandleFound{
			Handle: long, At: at(0),
			Lines: []web.FoundLine{line(web.Failure, "found.dns", "found.other", "did", web.Codes{did}), line(web.Warning, "found.https", "found.silent"), line(web.Failure, "found.document", "found.document-other", "handle", web.Host("xn--mnchen-3ya.example"))},
		}}},
		{"handle-wrong", path, 422, &web.ChangeHandle{Frame: of(alice(), "handle", wrong("name", "handle.taken")), Domains: domains, Name: "bob", Domain: ".example.org"}},
	}
}

// about are the pages about the server.
func about() []Sample {
	path := "/account/u/" + did + "/about"
	facts := web.ServerFacts{DID: "did:web:pds.example.com", Version: "0.14.0", UploadLimit: 300_000_000, Quota: 20_000_000_000, Domains: []string{".pds.example.com", ".example.org"}, Mail: true}
	bare := web.ServerFacts{DID: "did:web:pds.example.com", Version: "0.0.0-20261129140500-0123456789ab+dirty", UploadLimit: 5_000_000, Domains: []string{".pds.example.com"}}
	down := alice()
	down.TakenDown = true
	return []Sample{
		{"about", path, 200, &web.About{Frame: of(alice(), "about"), ServerFacts: facts, Files: 1204, Used: 3_456_700_000}},
		{"about-bare", path, 200, &web.About{Frame: of(alice(), "about"), ServerFacts: bare}},
		{"about-taken-down", path, 200, &web.About{Frame: of(down, "about"), ServerFacts: facts, Files: 1, Used: 999, TakenDownAt: at(2 * day), Case: hostile}},
	}
}
