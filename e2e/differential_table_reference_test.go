//go:build reference

package e2e

import "strings"

// endpoints are all that both serve, a "+" before those that are called by POST. The
// matrix sends nothing with them, or a refused input if nothing would change
// something for later requests.
var endpoints = []string{
	"+server.createSession", "+server.refreshSession", "server.getSession", "+server.createAccount", "+server.activateAccount",
	"+server.deactivateAccount", "server.checkAccountStatus", "server.describeServer", "+server.deleteAccount", "server.getServiceAuth",
	"+server.reserveSigningKey", "+server.createInviteCode", "+server.createInviteCodes", "server.getAccountInviteCodes",
	"+server.createAppPassword", "server.listAppPasswords", "+server.revokeAppPassword", "+server.requestEmailConfirmation",
	"+server.confirmEmail", "+server.requestEmailUpdate", "+server.updateEmail", "+server.requestPasswordReset", "+server.resetPassword",
	"+server.requestAccountDelete",
	"+repo.createRecord", "+repo.putRecord", "+repo.deleteRecord", "+repo.applyWrites", "repo.getRecord", "repo.listRecords",
	"repo.describeRepo", "+repo.importRepo", "repo.listMissingBlobs",
	"sync.getRepo", "sync.getRecord", "sync.getBlocks", "sync.getLatestCommit", "sync.getRepoStatus", "sync.listRepos", "sync.getHead",
	"sync.getCheckout", "sync.getBlob", "sync.listBlobs",
	"identity.resolveHandle", "+identity.updateHandle", "identity.getRecommendedDidCredentials", "+identity.requestPlcOperationSignature",
	"+identity.signPlcOperation", "+identity.submitPlcOperation",
	"+admin.updateSubjectStatus", "admin.getSubjectStatus", "admin.getAccountInfo", "admin.getAccountInfos", "+admin.sendEmail",
	"+admin.updateAccountEmail", "+admin.updateAccountHandle", "+admin.updateAccountPassword", "+admin.deleteAccount",
	"+admin.disableAccountInvites", "+admin.enableAccountInvites", "+admin.disableInviteCodes", "admin.getInviteCodes",
}

// refusedInput is what the matrix sends to endpoints that act on an empty
// input.
var refusedInput = map[string]any{
	"server.deactivateAccount": map[string]any{"deleteAfter": 5},
	"server.reserveSigningKey": map[string]any{"did": 5},
}

// unsafe are calls of the matrix that would change what others rely on.
var unsafe = map[string]bool{
	"server.activateAccount deactivated": true,
}

func matrix() (all []probe) {
	for _, name := range endpoints {
		nsid, post := strings.CutPrefix(name, "+")
		for _, credential := range credentials {
			if unsafe[nsid+" "+credential] {
				continue
			}
			p := probe{nsid: "com.atproto." + nsid, credential: credential, post: post}
			if in := refusedInput[nsid]; in != nil {
				p.in = in
			}
			all = append(all, p)
		}
	}
	return all
}

type fields = map[string]any

func get(nsid, credential string, pairs ...string) probe {
	params := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		params[pairs[i]] = pairs[i+1]
	}
	return probe{nsid: "com.atproto." + nsid, credential: credential, params: params}
}

func send(nsid, credential string, in any) probe {
	return probe{nsid: "com.atproto." + nsid, credential: credential, post: true, in: in}
}

// requests are those of a table, in an order: some change something.
func requests() (all []probe) {
	add := func(p ...probe) { all = append(all, p...) }
	const unknown = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	people := []string{"{alice}", "{dora}", "{tom}", "{gone}", unknown, "alice.test", "nobody.test", "nonsense", ""}

	for _, did := range people {
		for _, by := range []string{"none", "access", "admin"} {
			add(get("sync.getLatestCommit", by, "did", did), get("sync.getRepo", by, "did", did), get("sync.getHead", by, "did", did),
				get("sync.listBlobs", by, "did", did), get("sync.getBlob", by, "did", did, "cid", "{blob}"),
				get("sync.getRecord", by, "did", did, "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y"),
				get("sync.getBlocks", by, "did", did, "cids", "{head}"))
		}
		add(get("sync.getRepoStatus", "none", "did", did), get("repo.describeRepo", "none", "repo", did),
			get("repo.listRecords", "none", "repo", did, "collection", "app.bsky.feed.post"),
			get("repo.getRecord", "none", "repo", did, "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y"),
			get("admin.getAccountInfo", "admin", "did", did), get("admin.getAccountInfos", "admin", "dids", did),
			get("admin.getSubjectStatus", "admin", "did", did))
	}
	for _, handle := range []string{"alice.test", "ALICE.test", "dora.test", "tom.test", "gone.test", "nobody.test", "nonsense", "", "did:plc:x"} {
		add(get("identity.resolveHandle", "none", "handle", handle))
	}
	for _, limit := range []string{"0", "1", "1000", "1001", "-1", "many"} {
		add(get("sync.listRepos", "none", "limit", limit), get("sync.listBlobs", "none", "did", "{alice}", "limit", limit),
			get("repo.listRecords", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "limit", limit),
			get("repo.listMissingBlobs", "access", "limit", limit))
	}
	add(get("sync.listRepos", "none", "cursor", "nonsense"), get("repo.listRecords", "none", "repo", "{alice}", "collection", "nonsense"),
		get("repo.getRecord", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "rkey", "none"),
		get("repo.getRecord", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y", "cid", "{postCID}"),
		get("repo.getRecord", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y", "cid", "{blob}"),
		get("repo.getRecord", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y", "cid", "nonsense"),
		get("sync.getRecord", "none", "did", "{alice}", "collection", "app.bsky.feed.post", "rkey", "none"),
		get("sync.getBlob", "none", "did", "{alice}", "cid", "nonsense"), get("sync.getBlob", "none", "did", "{bob}", "cid", "{blob}"),
		get("sync.getBlocks", "none", "did", "{alice}", "cids", "nonsense"), get("sync.getBlocks", "none", "did", "{alice}", "cids", "{blob}"),
		get("sync.getRepo", "none", "did", "{alice}", "since", "3jui7kd54zh2y"), get("sync.getRepo", "none", "did", "{alice}", "since", "nonsense"))

	post := func(text string) fields {
		return fields{"$type": "app.bsky.feed.post", "text": text, "createdAt": "2026-08-01T12:00:00.000Z"}
	}
	record := func(change fields) fields {
		in := fields{"repo": "{alice}", "collection": "app.bsky.feed.post", "record": post("hi")}
		for name, value := range change {
			in[name] = value
		}
		return in
	}
	for _, change := range []fields{
		{},
		{"repo": "{bob}"},
		{"repo": "{gone}"},
		{"repo": unknown},
		{"repo": "nonsense"},
		{"collection": "nonsense"},
		{"rkey": "not a key"},
		{"rkey": "3jui7kd54zh2y"},
		{"record": fields{}},
		{"record": "text"},
		{"record": fields{"$type": "app.bsky.feed.like"}},
		{"record": fields{"$type": "app.bsky.feed.post"}},
		{"record": fields{"$type": "app.bsky.feed.post"}, "validate": false},
		{"validate": "yes"},
		{"swapCommit": "{blob}"},
		{"swapCommit": "nonsense"},
		{"collection": "com.example.thing", "record": fields{"a": 1}},
		{"collection": "com.example.thing", "record": fields{"a": 1}, "validate": true},
		{"collection": "com.example.thing", "record": fields{"a": 1.5}},
		{"record": fields{"$type": "app.bsky.feed.post", "text": "x", "createdAt": "yesterday"}},
	} {
		add(send("repo.createRecord", "access", record(change)))
		if _, ok := change["rkey"]; !ok {
			change["rkey"] = "3jui7kd54zh2z"
		}
		add(send("repo.putRecord", "access", record(change)))
	}
	for _, by := range []string{"bob", "deactivated", "takendown", "app password"} {
		add(send("repo.createRecord", by, record(nil)))
	}
	add(send("repo.putRecord", "access", record(fields{"rkey": "3jui7kd54zh2y", "swapRecord": nil})),
		send("repo.putRecord", "access", record(fields{"rkey": "3jui7kd54zh2y", "swapRecord": "{blob}"})),
		send("repo.deleteRecord", "access", fields{"repo": "{alice}", "collection": "app.bsky.feed.post", "rkey": "none"}),
		send("repo.deleteRecord", "access", fields{"repo": "{alice}", "collection": "app.bsky.feed.post", "rkey": "3jui7kd54zh2z", "swapRecord": "{blob}"}),
		send("repo.deleteRecord", "access", fields{"repo": "{alice}", "collection": "app.bsky.feed.post", "rkey": "3jui7kd54zh2z"}),
		send("repo.applyWrites", "access", fields{"repo": "{alice}", "writes": []any{}}),
		send("repo.applyWrites", "access", fields{"repo": "{alice}", "writes": []any{fields{"$type": "nonsense"}}}),
		send("repo.applyWrites", "access", fields{"repo": "{alice}", "writes": []any{
			fields{"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.thing", "rkey": "a", "value": fields{"a": 1}},
			fields{"$type": "com.atproto.repo.applyWrites#update", "collection": "com.example.thing", "rkey": "a", "value": fields{"a": 2}},
			fields{"$type": "com.atproto.repo.applyWrites#delete", "collection": "com.example.thing", "rkey": "a"},
		}}),
		send("repo.applyWrites", "access", fields{"repo": "{alice}", "writes": []any{
			fields{"$type": "com.atproto.repo.applyWrites#update", "collection": "com.example.thing", "rkey": "none", "value": fields{"a": 2}},
		}}))

	aud := "did:web:appview.example"
	for _, by := range []string{"access", "app password", "privileged app password", "takendown", "deactivated"} {
		for _, lxm := range []string{"", "com.example.method", "com.atproto.server.createAccount", "chat.bsky.convo.getLog", "com.atproto.server.deleteAccount", "com.atproto.admin.sendEmail", "nonsense"} {
			p := get("server.getServiceAuth", by, "aud", aud)
			if lxm != "" {
				p.params["lxm"] = lxm
			}
			add(p)
		}
	}
	add(get("server.getServiceAuth", "access", "aud", "nonsense"), get("server.getServiceAuth", "access", "aud", aud+"#service"),
		get("server.getServiceAuth", "access", "aud", aud, "exp", "1"), get("server.getServiceAuth", "access", "aud", aud, "exp", "99999999999"),
		get("server.getServiceAuth", "access", "aud", aud, "exp", "soon"))

	account := func(change fields) fields {
		in := fields{"handle": "newcomer.test", "email": "newcomer@example.com", "password": "correct-horse-battery"}
		for name, value := range change {
			in[name] = value
		}
		return in
	}
	for _, change := range []fields{
		{"handle": "alice.test"},
		{"handle": "nonsense"},
		{"handle": "a.b.test"},
		{"handle": "admin.test"},
		{"handle": "xx.test"},
		{"handle": "someone.example.com"},
		{"email": "alice@example.com"},
		{"email": "nonsense"},
		{"email": 5},
		{"did": "{alice}"},
		{"did": unknown},
		{"did": "nonsense"},
		{"inviteCode": "none"},
		{"recoveryKey": "nonsense"},
		{"plcOp": fields{}},
	} {
		add(send("server.createAccount", "none", account(change)))
	}
	for _, in := range []fields{
		{"identifier": "alice.test", "password": "wrong"},
		{"identifier": "nobody.test", "password": "wrong"},
		{"identifier": "tom.test", "password": pdstestPassword},
		{"identifier": "dora.test", "password": pdstestPassword},
		{"identifier": "gone.test", "password": pdstestPassword},
		{"identifier": "alice@example.com", "password": pdstestPassword},
		{"identifier": 5, "password": "x"},
	} {
		add(send("server.createSession", "none", in))
	}
	for _, in := range []fields{
		{"did": "{alice}", "password": pdstestPassword, "token": "AAAAA-AAAAA"},
		{"did": "{alice}", "password": "wrong", "token": "AAAAA-AAAAA"},
		{"did": unknown, "password": "wrong", "token": "AAAAA-AAAAA"},
		{"did": "nonsense", "password": "wrong", "token": "AAAAA-AAAAA"},
	} {
		add(send("server.deleteAccount", "none", in))
	}
	for _, handle := range []any{"alice.test", "bob.test", "admin.test", "a.b.test", "nonsense", "someone.invalid", "", 5} {
		add(send("identity.updateHandle", "access", fields{"handle": handle}))
		add(send("admin.updateAccountHandle", "admin", fields{"did": "{alice}", "handle": handle}))
	}
	add(send("identity.updateHandle", "deactivated", fields{"handle": "dora2.test"}), send("admin.updateAccountHandle", "admin", fields{"did": unknown, "handle": "nobody2.test"}),
		send("identity.signPlcOperation", "access", fields{"token": "AAAAA-AAAAA"}), send("identity.submitPlcOperation", "access", fields{"operation": fields{}}),
		send("identity.submitPlcOperation", "access", fields{"operation": fields{"type": "plc_operation", "rotationKeys": []any{}, "verificationMethods": fields{}, "alsoKnownAs": []any{}, "services": fields{}, "prev": nil, "sig": "x"}}),
		send("server.reserveSigningKey", "none", fields{}), send("server.reserveSigningKey", "none", fields{"did": unknown}), send("server.reserveSigningKey", "none", fields{"did": "nonsense"}))

	for _, name := range []any{"app", "other", "", strings.Repeat("x", 300), 5} {
		add(send("server.createAppPassword", "access", fields{"name": name}))
	}
	add(send("server.revokeAppPassword", "access", fields{"name": "other"}), send("server.revokeAppPassword", "access", fields{"name": "never"}),
		send("server.createInviteCode", "admin", fields{"useCount": 1}), send("server.createInviteCode", "admin", fields{"useCount": "one"}),
		send("server.createInviteCodes", "admin", fields{"codeCount": 2, "useCount": 1}),
		send("server.createInviteCodes", "admin", fields{"codeCount": 1, "useCount": 1, "forAccounts": []any{"{alice}"}}),
		get("server.getAccountInviteCodes", "access", "includeUsed", "false", "createAvailable", "true"),
		get("server.getAccountInviteCodes", "access", "includeUsed", "maybe"),
		get("admin.getInviteCodes", "admin", "sort", "recent"), get("admin.getInviteCodes", "admin", "sort", "usage", "limit", "1"),
		get("admin.getInviteCodes", "admin", "sort", "nonsense"), get("admin.getInviteCodes", "admin", "limit", "501"), get("admin.getInviteCodes", "admin", "cursor", "nonsense"),
		send("admin.disableAccountInvites", "admin", fields{"account": "{bob}"}), send("admin.enableAccountInvites", "admin", fields{"account": "{bob}"}),
		send("admin.disableAccountInvites", "admin", fields{"account": unknown}), send("admin.disableInviteCodes", "admin", fields{"codes": []any{"none"}}),
		send("admin.disableInviteCodes", "admin", fields{"accounts": []any{"{bob}"}}), send("admin.disableInviteCodes", "admin", fields{"accounts": []any{"admin"}}))

	subject := func(s fields, more fields) fields {
		in := fields{"subject": s}
		for name, value := range more {
			in[name] = value
		}
		return in
	}
	repoRef, strongRef := fields{"$type": "com.atproto.admin.defs#repoRef", "did": "{bob}"}, fields{"$type": "com.atproto.repo.strongRef", "uri": "{post}", "cid": "{postCID}"}
	blobRef := fields{"$type": "com.atproto.admin.defs#repoBlobRef", "did": "{alice}", "cid": "{blob}"}
	down, up := fields{"takedown": fields{"applied": true, "ref": "7"}}, fields{"takedown": fields{"applied": false}}
	add(get("admin.getSubjectStatus", "admin"), get("admin.getSubjectStatus", "admin", "uri", "{post}"), get("admin.getSubjectStatus", "admin", "did", "{alice}", "blob", "{blob}"),
		get("admin.getSubjectStatus", "admin", "blob", "{blob}"), get("admin.getSubjectStatus", "admin", "uri", "nonsense"))
	for _, s := range []fields{strongRef, blobRef, repoRef} {
		add(send("admin.updateSubjectStatus", "admin", subject(s, down)),
			get("admin.getSubjectStatus", "admin", "uri", "{post}"), get("admin.getSubjectStatus", "admin", "did", "{alice}", "blob", "{blob}"), get("admin.getSubjectStatus", "admin", "did", "{bob}"),
			get("repo.getRecord", "none", "repo", "{alice}", "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y"),
			get("repo.listRecords", "none", "repo", "{alice}", "collection", "app.bsky.feed.post"),
			get("sync.getRecord", "none", "did", "{alice}", "collection", "app.bsky.feed.post", "rkey", "3jui7kd54zh2y"),
			get("sync.getBlob", "none", "did", "{alice}", "cid", "{blob}"), get("sync.getRepoStatus", "none", "did", "{bob}"),
			send("admin.updateSubjectStatus", "admin", subject(s, up)))
	}
	add(send("admin.updateSubjectStatus", "admin", subject(fields{"$type": "nonsense"}, down)), send("admin.updateSubjectStatus", "admin", subject(repoRef, fields{"takedown": "yes"})),
		send("admin.updateSubjectStatus", "admin", subject(repoRef, nil)), send("admin.updateSubjectStatus", "admin", subject(fields{"$type": "com.atproto.admin.defs#repoRef", "did": unknown}, down)),
		send("admin.updateAccountEmail", "admin", fields{"account": "{bob}", "email": "bob2@example.com"}), send("admin.updateAccountEmail", "admin", fields{"account": unknown, "email": "x@example.com"}),
		send("admin.updateAccountEmail", "admin", fields{"account": "bob.test", "email": "alice@example.com"}), send("admin.updateAccountEmail", "admin", fields{"account": "{bob}", "email": "nonsense"}),
		send("admin.updateAccountPassword", "admin", fields{"did": "{bob}", "password": "another-horse-battery"}), send("admin.updateAccountPassword", "admin", fields{"did": unknown, "password": "another-horse-battery"}),
		send("admin.sendEmail", "admin", fields{"recipientDid": "{bob}", "senderDid": "{alice}", "content": "hello"}),
		send("admin.sendEmail", "admin", fields{"recipientDid": unknown, "senderDid": "{alice}", "content": "hello"}),
		send("admin.deleteAccount", "admin", fields{"did": unknown}))

	for _, by := range []string{"access", "app password"} {
		add(probe{nsid: "app.bsky.actor.getPreferences", credential: by})
		for _, prefs := range []any{
			[]any{},
			[]any{fields{"$type": "app.bsky.actor.defs#adultContentPref", "enabled": true}},
			[]any{fields{"enabled": true}},
			[]any{fields{"$type": "com.example.pref"}},
			[]any{fields{"$type": "app.bsky.actor.defs#personalDetailsPref", "birthDate": "1990-01-01T00:00:00.000Z"}},
			"none", nil,
		} {
			add(probe{nsid: "app.bsky.actor.putPreferences", credential: by, post: true, in: fields{"preferences": prefs}}, probe{nsid: "app.bsky.actor.getPreferences", credential: by})
		}
	}
	for _, by := range []string{"none", "refresh", "deactivated", "takendown", "admin"} {
		add(probe{nsid: "app.bsky.actor.getPreferences", credential: by}, probe{nsid: "app.bsky.actor.putPreferences", credential: by, post: true, in: fields{"preferences": []any{}}})
	}
	return all
}

const pdstestPassword = "correct-horse-battery"

// accepted are the differences on purpose.
var accepted = []acceptance{
	{`.* by takendown:`, `401 AccountTakedown`, `.*`, "| Access token of a taken-down account |"},
	{`server\.getSession by deleted:`, `400 ExpiredToken`, `400 InvalidRequest`, "| `getSession` for a deleted account |"},
	{`.* by deleted:`, `400 ExpiredToken`, `.*`, "| Any other call by a deleted account |"},
	{`server\.(refresh|get|create)Session by`, `200 .* didDoc:.*`, `200 .*`, "| `didDoc` in answers |"},
	{`sync\.getBlob by`, `400 BlobNotFound`, `400 InvalidRequest`, "| `getBlob` of a blob that is not here |"},
	{`repo\.(createRecord|putRecord|deleteRecord|applyWrites) by deactivated`, `401 AccountDeactivated`, `40[01] .*`, "| Writes of a deactivated account |"},
	{`repo\.getRecord by`, `400 InvalidRequest`, `502 UpstreamFailure`, "| `getRecord` of a repository that is not here |"},
	{`repo\.createRecord by`, `400 InvalidRequest`, `500 .*`, "| `createRecord`, or a create in `applyWrites`, where there is a record already |"},
	{`repo\.applyWrites by`, `400 InvalidRequest`, `500 .*`, "| `applyWrites`: update or delete of a record that is not there |"},
	{`server\.createAccount by .*alice\.test`, `400 HandleNotAvailable`, `400 InvalidRequest`, "| Handle that is taken |"},
	{`.* by .*"handle":"(nonsense)?"`, `400 InvalidHandle`, `400 InvalidRequest`, "| Malformed handle |"},
	{`server\.getServiceAuth by .*lxm=com\.atproto\.server\.deleteAccount`, `400 InvalidRequest`, `200 .*`, "| `getServiceAuth` for `createSession`, `refreshSession`, `deleteSession`, `deleteAccount`, `resetPassword`, `getServiceAuth`, `submitPlcOperation` |"},
	{`server\.createAppPassword by .*"name":"app"`, `400 InvalidRequest`, `500 .*`, "| App password of a name that exists |"},
	{`server\.createAppPassword by`, `400 InvalidRequest`, `200 .*`, "| App password's name |"},
	{`admin\.(updateSubjectStatus|updateAccountPassword|disableAccountInvites) by`, `400 AccountNotFound`, `200 .*`, "| `updateSubjectStatus`, `updateAccountPassword`, `disableAccountInvites`, `enableAccountInvites` for a DID that is not here |"},
	{`admin\.updateAccountEmail by`, `400 InvalidRequest`, `(200|500) .*`, "| `updateAccountEmail` with an address that is none, or another's |"},
}
