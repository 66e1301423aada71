package admin_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// call is a call by alice.
func (o *office) call(nsid string, in any) pdstest.Answer {
	o.t.Helper()
	return o.Do(o.t, pdstest.Request{NSID: nsid, Auth: pdstest.Bearer(o.alice.AccessJwt), Body: in})
}

// see is a call by anybody.
func (o *office) see(nsid string, query url.Values) pdstest.Answer {
	o.t.Helper()
	return o.Do(o.t, pdstest.Request{NSID: nsid + "?" + query.Encode()})
}

// link is a blob as records refer to it.
type link struct {
	Ref struct {
		Link string `json:"$link"`
	} `json:"ref"`
	raw json.RawMessage
}

func (o *office) upload(content string) (pdstest.Answer, link) {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), http.MethodPost, o.Base+"/xrpc/com.atproto.repo.uploadBlob", strings.NewReader(content))
	if err != nil {
		o.t.Fatal(err)
	}
	req.Header.Set("Authorization", pdstest.Bearer(o.alice.AccessJwt))
	req.Header.Set("Content-Type", "text/plain")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	var out struct{ Blob json.RawMessage }
	var l link
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &out); err != nil {
			o.t.Fatal(err)
		}
		if err := json.Unmarshal(out.Blob, &l); err != nil {
			o.t.Fatal(err)
		}
		l.raw = out.Blob
	}
	return pdstest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: body}, l
}

// write puts a record and returns its CID.
func (o *office) write(rkey string, record object) string {
	o.t.Helper()
	record["$type"] = "com.example.note"
	a := o.call("com.atproto.repo.putRecord", object{"repo": o.alice.DID, "collection": "com.example.note", "rkey": rkey, "record": record})
	if a.Status != http.StatusOK {
		o.t.Fatalf("write %s: %d %s", rkey, a.Status, a.Body)
	}
	var made struct{ CID string }
	a.Decode(o.t, &made)
	return made.CID
}

func (o *office) record(rkey string) pdstest.Answer {
	o.t.Helper()
	return o.see("com.atproto.repo.getRecord", url.Values{"repo": {o.alice.DID}, "collection": {"com.example.note"}, "rkey": {rkey}})
}

// TestTakedownRecord: no answer has the record, and moderators see its
// takedown; the repository, which is signed, still has it.
func TestTakedownRecord(t *testing.T) {
	o := newOffice(t)
	first := o.write("1", object{"text": "one"})
	o.write("2", object{"text": "two"})
	uri := "at://" + o.alice.DID + "/com.example.note/1"
	strong := func(cid string) object {
		return object{"$type": "com.atproto.repo.strongRef", "uri": uri, "cid": cid}
	}
	status := func(what, measure, cid string) {
		t.Helper()
		want(t, what, o.get("getSubjectStatus", url.Values{"uri": {uri}}), 200,
			fmt.Sprintf(`{"subject":{"$type":"com.atproto.repo.strongRef","uri":%q,"cid":%q},"takedown":%s}`, uri, cid, measure))
	}
	listed := func() (keys []string) {
		t.Helper()
		var out struct{ Records []struct{ URI string } }
		o.see("com.atproto.repo.listRecords", url.Values{"repo": {"alice.test"}, "collection": {"com.example.note"}}).Decode(t, &out)
		for _, r := range out.Records {
			keys = append(keys, r.URI[strings.LastIndex(r.URI, "/")+1:])
		}
		return keys
	}
	proof := func() int {
		t.Helper()
		a := o.see("com.atproto.sync.getRecord", url.Values{"did": {o.alice.DID}, "collection": {"com.example.note"}, "rkey": {"1"}})
		if a.Status != http.StatusOK {
			t.Errorf("proof: %d %s", a.Status, a.Body)
		}
		return bytes.Count(a.Body, []byte("com.example.note"))
	}
	status("at first", `{"applied":false}`, first)
	blocks := proof()

	want(t, "takedown", o.post("updateSubjectStatus", object{"subject": strong(first), "takedown": object{"applied": true, "ref": "case 7"}}), 200,
		fmt.Sprintf(`{"subject":{"$type":"com.atproto.repo.strongRef","uri":%q,"cid":%q},"takedown":{"applied":true,"ref":"case 7"}}`, uri, first))
	gone := func() {
		t.Helper()
		o.record("1").WantError(t, http.StatusBadRequest, "RecordNotFound", "Could not locate record: "+uri)
		if got := listed(); !slices.Equal(got, []string{"2"}) {
			t.Errorf("listed: %q", got)
		}
	}
	gone()
	status("taken down", `{"applied":true,"ref":"case 7"}`, first)
	if got := proof(); got != blocks {
		t.Errorf("the proof has %d of %d parts", got, blocks)
	}

	second := o.write("1", object{"text": "another"}) // it is the record, not its version
	gone()
	status("written again", `{"applied":true,"ref":"case 7"}`, second)
	o.call("com.atproto.repo.deleteRecord", object{"repo": o.alice.DID, "collection": "com.example.note", "rkey": "1"})
	status("deleted", `{"applied":true,"ref":"case 7"}`, first) // the version that was taken down
	third := o.write("1", object{"text": "once more"})
	gone()

	if a := o.post("updateSubjectStatus", object{"subject": strong(first), "takedown": object{"applied": false}}); a.Status != http.StatusOK {
		t.Errorf("lift: %d %s", a.Status, a.Body)
	}
	status("lifted", `{"applied":false}`, third)
	if a := o.record("1"); a.Status != http.StatusOK || !slices.Equal(listed(), []string{"2", "1"}) {
		t.Errorf("lifted: %d %s, %q", a.Status, a.Body, listed())
	}
	if a := o.post("updateSubjectStatus", object{"subject": strong(first), "deactivated": object{"applied": true}}); a.Status != http.StatusOK {
		t.Errorf("deactivate a record, which means nothing: %d %s", a.Status, a.Body)
	}
	o.wantStatus("alice herself", `{"applied":false}`, `{"applied":false}`)
}

// TestTakedownImport: takedowns stay, whatever repository the owner imports.
func TestTakedownImport(t *testing.T) {
	o := newOffice(t)
	first := o.write("1", object{"text": "one"})
	export := o.see("com.atproto.sync.getRepo", url.Values{"did": {o.alice.DID}})
	o.write("2", object{"text": "two"})
	strong := object{"$type": "com.atproto.repo.strongRef", "uri": "at://" + o.alice.DID + "/com.example.note/1", "cid": first}
	if a := o.post("updateSubjectStatus", object{"subject": strong, "takedown": object{"applied": true}}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	imported := o.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.importRepo", Auth: pdstest.Bearer(o.alice.AccessJwt), Body: string(export.Body),
		Header: http.Header{"Content-Type": {"application/vnd.ipld.car"}},
	})
	if imported.Status != http.StatusOK || o.record("2").Status != http.StatusBadRequest {
		t.Fatalf("import: %d %s", imported.Status, imported.Body)
	}
	if a := o.record("1"); a.Status != http.StatusBadRequest {
		t.Errorf("imported: %d %s", a.Status, a.Body)
	}
	if a := o.post("updateSubjectStatus", object{"subject": strong, "takedown": object{"applied": false}}); a.Status != http.StatusOK {
		t.Errorf("lift: %d %s", a.Status, a.Body)
	}
	if a := o.record("1"); a.Status != http.StatusOK {
		t.Errorf("lifted: %d %s", a.Status, a.Body)
	}
}

func TestTakedownBlob(t *testing.T) {
	o := newOffice(t)
	_, l := o.upload("a picture")
	id := l.Ref.Link
	o.write("1", object{"picture": l.raw})
	subject := object{"$type": "com.atproto.admin.defs#repoBlobRef", "did": o.alice.DID, "cid": id, "recordUri": "at://" + o.alice.DID + "/com.example.note/1"}
	status := func(what, measure string) {
		t.Helper()
		want(t, what, o.get("getSubjectStatus", url.Values{"did": {o.alice.DID}, "blob": {id}}), 200,
			fmt.Sprintf(`{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":%q,"cid":%q},"takedown":%s}`, o.alice.DID, id, measure))
	}
	blob := func(auth string) pdstest.Answer {
		return o.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + o.alice.DID + "&cid=" + id, Auth: auth})
	}
	status("at first", `{"applied":false}`)
	want(t, "takedown", o.post("updateSubjectStatus", object{"subject": subject, "takedown": object{"applied": true}}), 200, fmt.Sprintf(
		`{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":%q,"cid":%q,"recordUri":%q},"takedown":{"applied":true}}`, o.alice.DID, id, subject["recordUri"]))
	status("taken down", `{"applied":true}`)
	for _, auth := range []string{"", asAdmin, pdstest.Bearer(o.alice.AccessJwt)} {
		blob(auth).WantError(t, http.StatusBadRequest, "BlobNotFound", "Blob not found")
	}
	again, _ := o.upload("a picture")
	again.WantError(t, http.StatusBadRequest, "InvalidRequest", "Blob has been takendown, cannot re-upload")
	o.call("com.atproto.repo.createRecord", object{
		"repo": o.alice.DID, "collection": "com.example.note", "record": object{"$type": "com.example.note", "picture": l.raw},
	}).WantError(t, http.StatusBadRequest, "BlobNotFound", "Could not find blob: "+id)

	if a := o.post("updateSubjectStatus", object{"subject": subject, "takedown": object{"applied": false}}); a.Status != http.StatusOK {
		t.Errorf("lift: %d %s", a.Status, a.Body)
	}
	status("lifted", `{"applied":false}`)
	if a := blob(""); a.Status != http.StatusOK || string(a.Body) != "a picture" {
		t.Errorf("lifted: %d %s", a.Status, a.Body)
	}
	if a, _ := o.upload("a picture"); a.Status != http.StatusOK {
		t.Errorf("uploaded when it was lifted: %d %s", a.Status, a.Body)
	}
}

func TestUpdateAccountEmail(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	o := newOffice(t, box.Settings()...)
	o.SignUp(t, "bob")
	if a := o.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestEmailConfirmation", Auth: pdstest.Bearer(o.alice.AccessJwt)}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := o.call("com.atproto.server.confirmEmail", object{"email": "alice@example.com", "token": box.Code(t, "alice@example.com")}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	for _, c := range []struct{ account, email, message string }{
		{"alice.test", "no address", "This email address is not supported, please use a different email."},
		{"alice.test", "BOB@example.com", "This email address is already in use, please use a different email."},
		{"nobody.test", "new@example.com", "Account does not exist: nobody.test"},
		{ghost, "new@example.com", "Account does not exist: " + ghost},
		{"alice@example.com", "new@example.com", "Invalid AT identifier at $.account"},
	} {
		o.post("updateAccountEmail", object{"account": c.account, "email": c.email}).WantError(t, http.StatusBadRequest, "InvalidRequest", c.message)
	}
	if a := o.post("updateAccountEmail", object{"account": "alice.test", "email": "New@example.com"}); a.Status != http.StatusOK || len(a.Body) != 0 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if m := box.Wait(t, "alice@example.com"); m.Subject != "Your email address was changed" {
		t.Errorf("to the address that was confirmed: %q", m.Subject)
	}
	o.SignIn(t, "new@example.com", pdstest.Password)
	run[admin.AccountLine](o, "account.email", admin.EmailArgs{Account: o.alice.DID, Email: "newer@example.com"})
	o.SignIn(t, "newer@example.com", pdstest.Password)
}

func TestSendEmail(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	o := newOffice(t, box.Settings()...)
	in := object{"recipientDid": o.alice.DID, "senderDid": ghost, "content": "Please read\n\nthe rules.", "subject": "About your post", "comment": "a secret"}
	want(t, "sent", o.post("sendEmail", in), 200, `{"sent":true}`)
	m := box.Wait(t, "alice@example.com")
	if m.Subject != "About your post" || !strings.Contains(m.Text, "the rules.") || strings.Contains(m.Text+m.HTML, "a secret") {
		t.Errorf("%+v", m)
	}
	delete(in, "subject")
	o.post("sendEmail", in)
	if m := box.Wait(t, "alice@example.com"); m.Subject != "Message via your PDS" {
		t.Errorf("without subject: %q", m.Subject)
	}
	run[admin.AccountLine](o, "account.mail", admin.MailArgs{Account: "alice.test", Subject: "From the machine", Text: "Hello"})
	if m := box.Wait(t, "alice@example.com"); m.Subject != "From the machine" {
		t.Errorf("by command: %q", m.Subject)
	}
	// A moderation service writes HTML; the operator, by command, text.
	in["content"] = "<p>See <b>this</b></p>"
	o.post("sendEmail", in)
	if m := box.Wait(t, "alice@example.com"); !strings.Contains(m.Text, "\nSee this\n") || !strings.Contains(m.HTML, "<p>See <b>this</b></p>") {
		t.Errorf("%s\n%s", m.Text, m.HTML)
	}
	run[admin.AccountLine](o, "account.mail", admin.MailArgs{Account: "alice.test", Text: "<p>See <b>this</b></p>"})
	if m := box.Wait(t, "alice@example.com"); !strings.Contains(m.Text, "\n<p>See <b>this</b></p>\n") || strings.Contains(m.HTML, "<b>this") {
		t.Errorf("by command: %s\n%s", m.Text, m.HTML)
	}
	var none any
	if err := o.Run(t.Context(), "account.mail", admin.MailArgs{Account: "alice.test"}, &none); err == nil {
		t.Error("an empty message is sent")
	}
	for _, c := range []struct {
		key, value, message string
	}{
		{"recipientDid", ghost, "Recipient not found"},
		{"recipientDid", "alice.test", "Invalid DID at $.recipientDid"},
		{"senderDid", "alice.test", "Invalid DID at $.senderDid"},
		{"content", strings.Repeat("'", 60_000), "The message is too large"}, // with its escapes
	} {
		bad := object{"recipientDid": o.alice.DID, "senderDid": ghost, "content": "Hello"}
		bad[c.key] = c.value
		o.post("sendEmail", bad).WantError(t, http.StatusBadRequest, "InvalidRequest", c.message)
	}
}

// TestSendEmailNowhere: a server without mail answers that nothing was sent.
func TestSendEmailNowhere(t *testing.T) {
	o := newOffice(t, "PDS_EMAIL_SMTP_URL=none")
	want(t, "nowhere", o.post("sendEmail", object{"recipientDid": o.alice.DID, "senderDid": ghost, "content": "Hello"}), 200, `{"sent":false}`)
}

func TestSearchAccounts(t *testing.T) {
	o := newOffice(t)
	bob, alicia := o.SignUp(t, "bob"), o.SignUp(t, "alicia")
	type page struct {
		Cursor   string
		Accounts []struct{ DID string }
	}
	find := func(query url.Values) (page, []string) {
		t.Helper()
		var p page
		o.get("searchAccounts", query).Decode(t, &p)
		var dids []string
		for _, a := range p.Accounts {
			dids = append(dids, a.DID)
		}
		return p, dids
	}
	for text, want := range map[string][]string{"ALI": {o.alice.DID, alicia.DID}, "bob@": {bob.DID}, "ob.test": {bob.DID}, "": {o.alice.DID, bob.DID, alicia.DID}, "%": nil} {
		if p, got := find(url.Values{"email": {text}}); !slices.Equal(got, want) || p.Cursor != "" {
			t.Errorf("%q: %q, cursor %q", text, got, p.Cursor)
		}
	}
	p, got := find(url.Values{"email": {"ali"}, "limit": {"1"}})
	if !slices.Equal(got, []string{o.alice.DID}) || p.Cursor == "" {
		t.Errorf("the first: %q, cursor %q", got, p.Cursor)
	}
	if p, got := find(url.Values{"email": {"ali"}, "limit": {"1"}, "cursor": {p.Cursor}}); !slices.Equal(got, []string{alicia.DID}) || p.Cursor != "" {
		t.Errorf("the last: %q, cursor %q", got, p.Cursor)
	}
	want(t, "nobody", o.get("searchAccounts", url.Values{"email": {"nobody"}}), 200, `{"accounts":[]}`)
	for message, query := range map[string]url.Values{
		"integer too small (minimum 1, got 0) at $.limit":   {"limit": {"0"}},
		"integer too big (maximum 100, got 101) at $.limit": {"limit": {"101"}},
		"Malformed cursor":                         {"cursor": {"x"}},
		"string too long (maximum 254) at $.email": {"email": {strings.Repeat("x", 255)}},
	} {
		o.get("searchAccounts", query).WantError(t, http.StatusBadRequest, "InvalidRequest", message)
	}
	if list := run[admin.AccountPage](o, "account.search", admin.SearchArgs{Text: "bob"}); len(list.Accounts) != 1 || list.Accounts[0].DID != bob.DID {
		t.Errorf("by command: %+v", list)
	}
}

// TestAudit: who did what, by endpoint and by command, without secrets.
func TestAudit(t *testing.T) {
	o := newOffice(t)
	o.takedown(true, "case 7")
	o.takedown(false, "")
	o.post("updateAccountPassword", object{"did": o.alice.DID, "password": "a-secret-password"})
	run[admin.AccountLine](o, "account.password", admin.PasswordArgs{Account: "alice.test", Password: "a-secret-password"})
	run[admin.AccountLine](o, "account.email", admin.EmailArgs{Account: "alice.test", Email: "a-secret@example.com"})
	run[admin.AccountLine](o, "account.notices", admin.SwitchArgs{Account: "alice.test"})
	set := run[admin.TakedownLine](o, "takedown.set", admin.ContentArgs{URI: "at://alice.test/com.example.note/1", Applied: true, Ref: "case 8"})
	if want := (admin.TakedownLine{URI: "at://" + o.alice.DID + "/com.example.note/1", DID: o.alice.DID, Ref: "case 8", At: "2026-03-01T12:00:00.000Z"}); set != want {
		t.Errorf("takedown: %+v", set)
	}
	run[admin.TakedownLine](o, "takedown.set", admin.ContentArgs{Account: "alice.test", Blob: someCID, Applied: true})
	if list := run[admin.TakedownPage](o, "takedown.list", admin.TakedownsArgs{Account: "alice.test"}); len(list.Takedowns) != 2 || list.Takedowns[0].Blob != someCID || list.Takedowns[1] != set {
		t.Errorf("takedowns: %+v", list)
	}
	run[admin.TakedownLine](o, "takedown.set", admin.ContentArgs{Account: "alice.test", Blob: someCID})
	run[any](o, "keys.rotate", admin.Done{})
	run[any](o, "firehose.jump", admin.JumpArgs{To: 1000})
	for _, a := range []admin.ContentArgs{{URI: "at://alice.test"}, {URI: "x"}, {Account: "alice.test", Blob: "x"}, {URI: "at://nobody.test/a.b.c/d"}} {
		var none any
		if err := o.Run(t.Context(), "takedown.set", a, &none); err == nil {
			t.Errorf("%+v is taken down", a)
		}
	}
	run[admin.Done](o, "account.delete", admin.AccountArgs{Account: "alice.test"})

	page := run[admin.AuditPage](o, "audit", admin.AuditArgs{})
	var got []string
	for _, a := range slices.Backward(page.Actions) {
		got = append(got, a.Who+" "+a.What)
		if text := fmt.Sprintf("%+v", a); strings.Contains(text, "secret") || strings.Contains(text, "@") {
			t.Errorf("it tells too much: %s", text)
		}
		if a.At != "2026-03-01T12:00:00.000Z" || (a.Who == "admin") != (a.Network != "") {
			t.Errorf("%+v", a)
		}
	}
	if want := []string{
		"admin takedown", "admin takedown-lifted", "admin password-changed", "operator password-changed", "operator email-changed", "operator notices-off",
		"operator content-takedown", "operator content-takedown", "operator content-takedown-lifted", "operator key-rotated", "operator firehose-jump", "operator account-deleted",
	}; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if a := page.Actions[len(page.Actions)-1]; a.Account != o.alice.DID || !strings.HasPrefix(a.Details, `ref "case 7", `) {
		t.Errorf("%+v", a)
	}
	for _, c := range []struct {
		args admin.AuditArgs
		want int
	}{
		{admin.AuditArgs{Account: o.alice.DID}, 10}, // alice, whose account is gone
		{admin.AuditArgs{Account: ghost}, 0},
		{admin.AuditArgs{Since: "2026-03-01T12:00:00Z"}, 12},
		{admin.AuditArgs{Since: "2026-03-01T12:00:01Z"}, 0},
	} {
		if got := run[admin.AuditPage](o, "audit", c.args); len(got.Actions) != c.want {
			t.Errorf("%+v: %d actions, want %d", c.args, len(got.Actions), c.want)
		}
	}
	for _, a := range []admin.AuditArgs{{Account: "nobody.test"}, {Since: "yesterday"}} {
		var none any
		if err := o.Run(t.Context(), "audit", a, &none); err == nil {
			t.Errorf("%+v is taken", a)
		}
	}
}
