package admin_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// moderated is an account with a note and a picture, some of which moderators have acted
// on, and the model of what must be in force.
type moderated struct {
	*office

	name                                   string
	down, suspended, noInvites, note, blob bool
	session                                pdstest.Session
	token, code, uri, noteCID, password    string
	car                                    []byte
	pic                                    link
}

// TestMeasuresOutliveAccounts is the model of moderation: for every combination of
// measures, the owner deletes the account, the operator deletes it, the DID moves in with
// a service token of this very server, imports, uploads again, changes its handle and is
// activated. After each step moderators see their decisions, which still hold.
func TestMeasuresOutliveAccounts(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	o := newOffice(t, box.Settings()...)
	for i := range 1 << 4 {
		m := &moderated{
			office: o, name: fmt.Sprintf("user%d", i), password: pdstest.Password,
			down: i&1 != 0, suspended: i&2 != 0, noInvites: i&4 != 0, note: i&8 != 0, blob: i&8 != 0,
		}
		m.begin(box)
		m.want("at first")
		m.ownerDeletes()
		m.want("after the owner tried to delete it")
		if !m.gone() {
			run[admin.Done](o, "account.delete", admin.AccountArgs{Account: m.session.DID})
		}
		m.want("deleted")
		m.returns("")
		m.want("moved in")
		m.brings()
		m.want("imported")
		m.renames()
		m.want("renamed and activated")
		run[admin.Done](o, "account.delete", admin.AccountArgs{Account: m.session.DID})
		m.want("deleted again")
		m.lift()
		m.want("lifted")
		m.returns("again")
		m.brings()
		m.want("clean")
	}
}

func (m *moderated) as() string { return pdstest.Bearer(m.session.AccessJwt) }

// begin makes the account, all that it needs to come back, and the measures.
func (m *moderated) begin(box *pdstest.Mailbox) {
	m.t.Helper()
	m.session = m.SignUp(m.t, m.name)
	m.alice = m.session // the office's helpers act for alice
	_, m.pic = m.upload("picture of " + m.name)
	m.noteCID = m.write("1", object{"text": "hello", "pic": m.pic.raw})
	m.uri = "at://" + m.session.DID + "/com.example.note/1"
	m.car = m.Do(m.t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + m.session.DID}).Body
	m.authorize()
	if a := m.Do(m.t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestAccountDelete", Auth: m.as()}); a.Status != http.StatusOK {
		m.t.Fatalf("%d %s", a.Status, a.Body)
	}
	m.code = box.Code(m.t, m.name+"@example.com")

	did := admin.AccountArgs{Account: m.session.DID}
	if m.down {
		run[admin.AccountLine](m.office, "account.takedown", admin.TakedownArgs{Account: m.session.DID, Ref: "case 7"})
	}
	if m.suspended {
		run[admin.AccountLine](m.office, "account.suspend", did)
	}
	if m.noInvites {
		m.post("disableAccountInvites", object{"account": m.session.DID})
	}
	if m.note {
		run[admin.TakedownLine](m.office, "takedown.set", admin.ContentArgs{URI: m.uri, Applied: true, Ref: "case 8"})
		run[admin.TakedownLine](m.office, "takedown.set", admin.ContentArgs{Account: m.session.DID, Blob: m.pic.Ref.Link, Applied: true, Ref: "case 9"})
	}
}

// authorize gets the service token with which the DID moves in.
func (m *moderated) authorize() {
	m.t.Helper()
	q := url.Values{"aud": {m.serverDID()}, "lxm": {"com.atproto.server.createAccount"}, "exp": {fmt.Sprint(m.clock.Now().Add(time.Hour - time.Second).Unix())}}
	var made struct{ Token string }
	m.Do(m.t, pdstest.Request{NSID: "com.atproto.server.getServiceAuth?" + q.Encode(), Auth: m.as()}).Decode(m.t, &made)
	m.token = made.Token
}

func (m *moderated) serverDID() string {
	m.t.Helper()
	var out struct{ DID string }
	m.Do(m.t, pdstest.Request{NSID: "com.atproto.server.describeServer"}).Decode(m.t, &out)
	return out.DID
}

func (m *moderated) gone() bool {
	return m.get("getAccountInfo", url.Values{"did": {m.session.DID}}).Status != http.StatusOK
}

// ownerDeletes tries it with a code from before the measures.
func (m *moderated) ownerDeletes() {
	m.t.Helper()
	a := m.Do(m.t, pdstest.Request{NSID: "com.atproto.server.deleteAccount", Body: object{"did": m.session.DID, "password": m.password, "token": m.code}})
	switch {
	case m.down:
		a.WantError(m.t, 401, "AccountTakedown", "Account has been taken down")
	case m.suspended:
		a.WantError(m.t, 401, "AccountTakedown", "Account has been suspended")
	case a.Status != http.StatusOK:
		m.t.Errorf("%s: %d %s", m.name, a.Status, a.Body)
	}
	if held := m.down || m.suspended; m.gone() == held {
		m.t.Errorf("%s: held %t, gone %t", m.name, held, m.gone())
	}
}

// returns moves the DID in. One that is taken down is refused until the takedown is
// lifted.
func (m *moderated) returns(suffix string) {
	m.t.Helper()
	body := object{"did": m.session.DID, "handle": m.name + suffix + "x.test", "email": m.name + suffix + "x@example.com", "password": m.password}
	call := pdstest.Request{NSID: "com.atproto.server.createAccount", Auth: pdstest.Bearer(m.token), Body: body}
	if m.down {
		m.Do(m.t, call).WantError(m.t, 401, "AccountTakedown", "Account has been taken down")
		m.want("refused")
		run[admin.AccountLine](m.office, "account.untakedown", admin.AccountArgs{Account: m.session.DID})
		m.down = false
	}
	a := m.Do(m.t, call)
	if a.Status != http.StatusOK {
		m.t.Fatalf("%s moves in: %d %s", m.name, a.Status, a.Body)
	}
	a.Decode(m.t, &m.session)
	m.alice = m.session
}

// brings imports the repository and uploads its picture.
func (m *moderated) brings() {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, m.Base+"/xrpc/com.atproto.repo.importRepo", strings.NewReader(string(m.car)))
	if err != nil {
		m.t.Fatal(err)
	}
	req.Header.Set("Authorization", m.as())
	req.Header.Set("Content-Type", "application/vnd.ipld.car")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	_ = resp.Body.Close()
	up, _ := m.upload("picture of " + m.name)
	if m.suspended {
		up.WantError(m.t, 401, "AccountTakedown", "Account has been suspended")
		if resp.StatusCode != http.StatusUnauthorized {
			m.t.Errorf("%s imports: %s", m.name, resp.Status)
		}
		return
	}
	if resp.StatusCode != http.StatusOK {
		m.t.Errorf("%s imports: %s", m.name, resp.Status)
	}
	if (up.Status != http.StatusOK) != m.blob {
		m.t.Errorf("%s uploads, its picture taken down %t: %d %s", m.name, m.blob, up.Status, up.Body)
	}
}

// renames gives the account another handle and activates it.
func (m *moderated) renames() {
	m.t.Helper()
	var report map[string]any
	if err := m.Run(m.t.Context(), "identity.repair", admin.RepairArgs{Account: m.session.DID, Force: true}, &report); err != nil {
		m.t.Fatal(err)
	}
	for _, call := range []pdstest.Request{
		{NSID: "com.atproto.identity.updateHandle", Body: object{"handle": m.name + "y.test"}},
		{NSID: "com.atproto.server.activateAccount", Method: http.MethodPost},
	} {
		call.Auth = m.as()
		if a := m.Do(m.t, call); a.Status != http.StatusOK {
			m.t.Errorf("%s: %s: %d %s", m.name, call.NSID, a.Status, a.Body)
		}
	}
	m.authorize() // the DID names another key now
}

// lift lifts everything, of a DID that has no account.
func (m *moderated) lift() {
	m.t.Helper()
	if m.suspended {
		run[admin.AccountLine](m.office, "account.unsuspend", admin.AccountArgs{Account: m.session.DID})
	}
	if m.noInvites {
		if a := m.post("enableAccountInvites", object{"account": m.session.DID}); a.Status != http.StatusOK {
			m.t.Errorf("%s: %d %s", m.name, a.Status, a.Body)
		}
	}
	if m.note {
		for _, s := range []object{
			{"$type": "com.atproto.repo.strongRef", "uri": m.uri, "cid": m.noteCID},
			{"$type": "com.atproto.admin.defs#repoBlobRef", "did": m.session.DID, "cid": m.pic.Ref.Link},
		} {
			if a := m.post("updateSubjectStatus", object{"subject": s, "takedown": object{"applied": false}}); a.Status != http.StatusOK {
				m.t.Errorf("%s: %d %s", m.name, a.Status, a.Body)
			}
		}
	}
	m.suspended, m.noInvites, m.note, m.blob = false, false, false, false
}

// want compares what moderators see, and what the public sees, with the model.
func (m *moderated) want(when string) {
	m.t.Helper()
	gone := m.gone()
	a := m.get("getSubjectStatus", url.Values{"did": {m.session.DID}})
	if anything := m.down || m.suspended || m.noInvites || m.note; gone && !anything {
		a.WantError(m.t, 400, "NotFound", "Subject not found")
	} else {
		var st struct{ Takedown, Suspended admin.Measure }
		a.Decode(m.t, &st)
		if st.Takedown.Applied != m.down || m.down && st.Takedown.Ref != "case 7" || st.Suspended.Applied != m.suspended {
			m.t.Errorf("%s, %s: %d %s", m.name, when, a.Status, a.Body)
		}
	}
	for what, query := range map[string]url.Values{
		"the note": {"uri": {m.uri}}, "the picture": {"did": {m.session.DID}, "blob": {m.pic.Ref.Link}},
	} {
		var st struct{ Takedown admin.Measure }
		if a := m.get("getSubjectStatus", query); a.Status == http.StatusOK {
			a.Decode(m.t, &st)
		}
		if st.Takedown.Applied != m.note || m.note && !strings.HasPrefix(st.Takedown.Ref, "case ") {
			m.t.Errorf("%s, %s: %s: %+v", m.name, when, what, st)
		}
	}
	if a := m.see("com.atproto.sync.getBlob", url.Values{"did": {m.session.DID}, "cid": {m.pic.Ref.Link}}); a.Status == http.StatusOK && (m.blob || m.down || m.suspended || gone) {
		m.t.Errorf("%s, %s: the picture is shown", m.name, when)
	}
	if m.record("1").Status == http.StatusOK && (m.note || m.down || m.suspended || gone) {
		m.t.Errorf("%s, %s: the note is shown", m.name, when)
	}
	if gone {
		return
	}
	var info struct{ InvitesDisabled bool }
	m.get("getAccountInfo", url.Values{"did": {m.session.DID}}).Decode(m.t, &info)
	line := run[admin.AccountInfo](m.office, "account.info", admin.AccountArgs{Account: m.session.DID})
	wanted := []string{"active", "deactivated"}
	if m.suspended {
		wanted = []string{"suspended"}
	}
	if m.down {
		wanted = []string{"takendown"}
	}
	if info.InvitesDisabled != m.noInvites || !slices.Contains(wanted, line.Status) {
		m.t.Errorf("%s, %s: %+v, status %s", m.name, when, info, line.Status)
	}
}

// TestUpdateStatusOfTakenDown: a takedown prevails over an activation, and a call
// with only a subject repeats the event.
func TestUpdateStatusOfTakenDown(t *testing.T) {
	o := newOffice(t)
	o.takedown(true, "case 7")
	active := object{"subject": subject(o.alice.DID), "deactivated": object{"applied": false}}
	o.post("updateSubjectStatus", active).WantError(t, http.StatusBadRequest, "AccountNotFound", "user not found")
	o.wantStatus("refused", `{"applied":true,"ref":"case 7"}`, `{"applied":false}`)
	before := run[admin.FirehoseStatus](o, "firehose.status", admin.Done{}).Last
	if a := o.post("updateSubjectStatus", object{"subject": subject(o.alice.DID)}); a.Status != http.StatusOK {
		t.Errorf("only a subject: %d %s", a.Status, a.Body)
	}
	if after := run[admin.FirehoseStatus](o, "firehose.status", admin.Done{}).Last; after != before+1 {
		t.Errorf("%d events more, want 1", after-before)
	}
	o.post("updateSubjectStatus", object{"subject": subject(ghost)}).WantError(t, http.StatusBadRequest, "AccountNotFound", "Account not found")
	if a := o.takedown(false, ""); a.Status != http.StatusOK {
		t.Errorf("lifted: %d %s", a.Status, a.Body)
	}
	if a := o.post("updateSubjectStatus", active); a.Status != http.StatusOK {
		t.Errorf("active: %d %s", a.Status, a.Body)
	}
}
