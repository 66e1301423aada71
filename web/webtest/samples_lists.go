package webtest

import (
	"fmt"
	"time"

	"nestbox/moving"
	"nestbox/web"
)

// asleep is a deactivated account.
func asleep() *web.Account {
	a := alice()
	a.Deactivated = true
	return a
}

// sent is a file that was sent, of an archive with all that can be said of one.
func sent(phase moving.Phase, known bool) *web.BroughtFile {
	f := &web.BroughtFile{File: moving.File{Phase: phase, Size: 734_003_200, Until: at(-time.Hour), Archive: true, Repo: true}}
	if known {
		f.Records, f.Odd, f.HasPreferences, f.Preferences, f.Parts = 12_345, 3, true, 9, 4
		f.Blobs, f.New, f.There, f.Done, f.RefusedAll = 812, 700, 112, 213, 140
		for _, why := range []moving.Reason{moving.NotABlob, moving.Damaged, moving.TooLarge, moving.OverQuota, moving.TakenDown, moving.Unused, moving.NoRoom} {
			f.Refused = append(f.Refused, moving.Refused{Name: "blobs/bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku.png", Why: why})
		}
	}
	if phase == moving.Failed {
		f.Problem = web.Msg("bring.no-archive")
	}
	return f
}

// lists are the pages of browsers, app passwords and events.
func lists() []Sample {
	devices, passwords, events := alice().Path("devices"), alice().Path("app-passwords"), alice().Path("events")
	revoked := of(alice(), "app-passwords")
	revoked.Notices = []web.Notice{{Kind: web.Success, Text: web.Msg("done.app-password-ended")}}
	taken := of(alice(), "app-passwords")
	taken.Problems = []web.Problem{wrong("name", "app-passwords.name-taken")}
	odd := &web.Account{DID: did, Handle: long}
	bring, toSend := alice().Path("data/bring"), web.Form{Action: alice().Path("data/upload"), CSRF: "token"}
	noSource := of(alice(), "move")
	noSource.Problems = []web.Problem{wrong("source", "move.source-wrong")}
	noFile := of(asleep(), "data/bring")
	noFile.Problems = []web.Problem{wrong("file", "bring.no-file")}
	return []Sample{
		{"devices", devices, 200, &web.Devices{Frame: of(alice(), "devices"), Rows: []web.DeviceRow{
			{Ref: "browser 1", Name: "Firefox on Linux", This: true, SignedIn: true, Since: at(3 * day), Seen: at(time.Minute), Network: "192.0.2.0/24", TrustedUntil: at(-20 * day)},
			{Ref: "browser 2", Name: "Safari on iPhone", SignedIn: true, Since: at(9 * day), Seen: at(2 * day), Network: "2001:db8:1234:5678::/64"},
			{Ref: "browser 3", Name: hostile, Seen: at(20 * day), TrustedUntil: at(-2 * day)},
		}}},
		{"devices-many", devices, 200, &web.Devices{Frame: of(odd, "devices"), Rows: manyDevices(), Pager: pager(devices)}},
		{"devices-none", devices, 200, &web.Devices{Frame: of(alice(), "devices")}},
		{"app-passwords", passwords, 200, &web.AppPasswords{Frame: revoked, Rows: []web.AppPasswordRow{
			{Ref: "app-password my-bot", Name: "my-bot", Made: at(200 * day), Used: at(time.Hour), Network: "198.51.100.0/24", Sessions: 3},
			{Ref: "app-password x", Name: arabic, Privileged: true, Made: at(20 * day), Used: at(10 * day)},
			{Ref: "app-password y", Name: emoji, Made: at(10 * day)},
			{Ref: "app-password z", Name: hostile, Privileged: true, Made: at(10 * day), Used: at(day), Network: "2001:db8:1234:5678::/64", Sessions: 1},
		}}},
		{"app-passwords-wrong", passwords, 422, &web.AppPasswords{Frame: taken, Name: "my-bot", MayPrivileged: true, Rows: []web.AppPasswordRow{{Ref: "app-password my-bot", Name: "my-bot", Made: at(200 * day)}}}},
		{"app-passwords-many", passwords, 200, &web.AppPasswords{Frame: of(odd, "app-passwords"), Full: true, Rows: manyAppPasswords(), Pager: pager(passwords)}},
		{"app-passwords-none", passwords, 200, &web.AppPasswords{Frame: of(alice(), "app-passwords")}},
		{"app-password-made", passwords, 200, &web.AppPasswordMade{Frame: of(alice(), "app-passwords"), Name: hostile, Password: "abcd-efgh-2345-wxyz"}},
		{"app-password-made-privileged", passwords, 200, &web.AppPasswordMade{Frame: of(alice(), "app-passwords"), Name: "my-bot", Password: "abcd-efgh-2345-wxyz", Privileged: true}},
		{"events", events, 200, &web.Events{Frame: of(alice(), "events"), Rows: happened()}},
		{"events-many", events, 200, &web.Events{Frame: of(odd, "events"), About: "warnings", Rows: muchHappened(), Pager: pager(events)}},
		{"events-none", events, 200, &web.Events{Frame: of(alice(), "events"), About: "security"}},
		{"data", alice().Path("data"), 200, &web.Data{Frame: of(alice(), "data"), Files: 812, Size: 431_000_000}},
		{"data-parts", alice().Path("data"), 200, &web.Data{Frame: of(odd, "data"), Files: 30_000, Size: 5_000_000_000, Parts: []web.DataPart{{Number: 1, Files: 9000, Size: 1 << 30}, {Number: 2, Files: 20_000, Size: 900_000_000}, {Number: 3, Files: 1, Size: 1}}}},
		{"data-none", alice().Path("data"), 200, &web.Data{Frame: of(alice(), "data")}},
		{"files", alice().Path("files"), 200, &web.Files{Frame: of(alice(), "files"), Rows: manyFiles(), First: true, Next: alice().Path("files") + "?after=x"}},
		{"files-odd", alice().Path("files"), 200, &web.Files{Frame: of(odd, "files"), Rows: manyFiles()[:2]}},
		{"files-none", alice().Path("files"), 200, &web.Files{Frame: of(alice(), "files"), First: true}},
		{"bring", bring, 200, &web.Bring{Frame: of(alice(), "data/bring"), Most: 6 << 30, NotEmpty: true, Now: moving.Holdings{Records: 12_345, Blobs: 812, There: 800, Preferences: 9}}},
		{"bring-closed", bring, 200, &web.Bring{Frame: of(alice(), "data/bring"), Most: 6 << 30, Closed: true}},
		{"bring-prove", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), Most: 6 << 30}},
		{"bring-send", bring, 422, &web.Bring{Frame: noFile, Most: 6 << 30, Proven: true, Upload: toSend}},
		{"bring-examining", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), Proven: true, File: sent(moving.Examining, false)}},
		{"bring-ready", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), Proven: true, Upload: toSend, Most: 6 << 30, File: sent(moving.Ready, true)}},
		{"bring-bringing", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), File: sent(moving.Bringing, true)}},
		{"bring-brought", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), Proven: true, Upload: toSend, Most: 6 << 30, File: sent(moving.Brought, true)}},
		{"bring-failed", bring, 200, &web.Bring{Frame: of(asleep(), "data/bring"), File: sent(moving.Failed, false)}},
		{"move", alice().Path("move"), 200, moveIn()},
		{"move-out", alice().Path("move"), 200, &web.Move{Frame: of(alice(), "move"), Elsewhere: "https://new.example.com", Lines: moveLines()[:3], Operation: "{}", Server: "https://pds.example.com", SigningKey: signingKey}},
		{"move-wrong", alice().Path("move"), 422, &web.Move{Frame: noSource, Fetches: true, Source: "https://old.example/x", Lines: moveLines(), Operation: "{}", PLC: true, Server: "https://pds.example.com", SigningKey: signingKey}},
		{"secure", alice().Path("secure"), 200, &web.Secure{Frame: of(alice(), "secure"), Steps: []web.SecureStep{
			walk("password", alice().Path("password"), web.Msg("secure.password-changed", "time", at(400*day))),
			walk("app-passwords", passwords, web.Msg("secure.app-passwords-now", "count", 4)),
			walk("factors", alice().Path("security"), web.Msg("secure.factors-off")),
			walk("sessions", alice().Path("sessions"), web.Msg("secure.sessions-now", "count", 1)),
			walk("keys", alice().Path("identity"), web.Msg("secure.keys-now")),
		}}},
		{"confirm-ticks", alice().Path("sessions"), 200, &web.Confirm{
			Frame: of(alice(), "sessions"), Title: web.Msg("confirm.session", "name", web.Host(longApp().Host)), Body: []web.Text{web.Msg("confirm.session-body")},
			Button: web.Msg("confirm.session-button"), Danger: true, Back: alice().Path("sessions"), Fields: []web.Field{{Name: "end", Value: "session 12"}},
			Ticks: []web.Tick{{Name: "all_of", Text: web.Msg("confirm.all-of-app", "count", 12)}, {Name: "forget", Text: web.Msg("confirm.forget")}},
		}},
	}
}

func walk(name, path string, now web.Text) web.SecureStep {
	return web.SecureStep{
		Title: web.Msg("secure." + name), Body: []web.Text{web.Msg("secure." + name + "-body"), now}, Link: web.Link{URL: path, Text: web.Msg("secure." + name + "-link")},
	}
}

func manyDevices() (rows []web.DeviceRow) {
	for i := range 40 {
		rows = append(rows, web.DeviceRow{Ref: fmt.Sprint("browser ", i), Name: "Chrome on Android", SignedIn: true, Since: at(time.Duration(i) * day), Seen: at(time.Duration(i) * day), Network: "192.0.2.0/24", TrustedUntil: at(-day)})
	}
	return rows
}

func manyAppPasswords() (rows []web.AppPasswordRow) {
	for i := range 30 {
		rows = append(rows, web.AppPasswordRow{Ref: fmt.Sprint("app-password ", i), Name: fmt.Sprint("bot ", i), Made: at(time.Duration(i) * day)})
	}
	return rows
}

func happened() []web.EventRow {
	event := func(id string, ago time.Duration, what web.Text) web.EventRow {
		return web.EventRow{Anchor: id, At: at(ago), What: what, Network: "192.0.2.0/24", Program: "Firefox on Linux"}
	}
	here := event("e9", time.Minute, web.Msg("event.sign-in-browser-code"))
	here.This = true
	elsewhere := event("e8", 2*time.Hour, web.Msg("event.sign-in-app"))
	elsewhere.NotMe, elsewhere.Program, elsewhere.Network = "session 12", "Bluesky app", "203.0.113.0/24"
	over := event("e7", 3*day, web.Msg("event.app-authorized", "app", web.Host(longApp().Host)))
	over.NotMe, over.Cause, over.CauseText, over.CauseAt = "session 11", alice().Path("events")+"?at=6#e6", web.Msg("why.all-owner"), at(2*day)
	all := event("e6", 2*day, web.Msg("event.all-signed-out"))
	shared := event("e5", 4*day, web.Msg("event.suspected-sharing"))
	shared.Warning, shared.OtherNetwork, shared.OtherProgram, shared.Advice = true, "2001:db8:1234:5678::/64", hostile, web.Msg("advice.end")
	shared.Subject = &web.Subject{Kind: web.AppPasswordSession, Name: arabic}
	down := event("e4", 5*day, web.Msg("event.session-revoked"))
	down.By, down.Subject = web.Msg("events.by-server"), &web.Subject{Kind: web.OAuthSession, Name: "statusphere.example.net"}
	handle := event("e3", 6*day, web.Msg("event.handle-changed", "handle", web.Host(long)))
	handle.By = web.Msg("events.by-admin")
	permission := event("e2", 7*day, web.Msg("event.app-permission-taken", "app", web.Msg("client.loopback"), "what", web.Msg("may.repo-all", "collections", web.Codes{"a.b.c"})))
	unknown := event("e1", 8*day, web.Msg("event.unknown", "kind", web.Codes{"something-newer"}))
	return []web.EventRow{here, elsewhere, all, over, shared, down, handle, permission, unknown}
}

func muchHappened() (rows []web.EventRow) {
	for i := range 40 {
		row := happened()[i%9]
		row.Anchor = fmt.Sprint("x", i)
		rows = append(rows, row)
	}
	return rows
}

func manyFiles() (rows []web.FileRow) {
	types := []string{"image/jpeg", hostile, "video/mp4", "image/svg+xml"}
	for i := range 20 {
		row := web.FileRow{Name: "bafkreiaia4aivilf6udqvv3xsfoz4shng5j5dhsi2yfyraludx54g7xrcy", Href: alice().Path("file") + "?cid=x", Type: types[i%len(types)], Size: web.Bytes(i * i * 100_000), TakenDown: i == 1}
		for j := range i % 3 {
			row.Records = append(row.Records, fmt.Sprintf("app.bsky.feed.post/3m6kx2ab%d7c2k", j))
		}
		rows = append(rows, row)
	}
	return rows
}
