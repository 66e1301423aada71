package repo_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/xrpc"
)

func (p *person) get(collection, rkey string, version *string) (xrpc.RawJSON, error) {
	return p.w.GetRecord(p.w.t.Context(), auth.Anyone{}, repo.GetRecordParams{Repo: p.did.String(), Collection: collection, RKey: rkey, CID: version})
}

func TestGetRecord(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	const value = `{"link":{"$link":"bafkreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"},"b":{"$bytes":"AAECAw"},"n":-7,"list":[null,true,"<é\u0001>"]}`
	made := alice.mustCreate(foo, new("k"), value)
	raw, err := alice.get(foo, "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		URI, CID string
		Value    map[string]any
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	var want map[string]any
	if err := json.Unmarshal([]byte(value), &want); err != nil {
		t.Fatal(err)
	}
	want["$type"] = foo
	if got.URI != made.URI || got.CID != made.CID || fmt.Sprint(got.Value) != fmt.Sprint(want) {
		t.Errorf("got  %s\nwant %v of %+v", raw, want, made)
	}
	if again, err := alice.get(foo, "k", new(made.CID)); err != nil || string(again) != string(raw) {
		t.Errorf("by its CID: %s, %v", again, err)
	}
	const noRecord = "Could not locate record: at://did:plc:alice/com.example.foo/"
	_, err = alice.get(foo, "k", new(elsewhere))
	wantError(t, "another version", err, 400, "RecordNotFound", noRecord+"k")
	_, err = alice.get(foo, "none", nil)
	wantError(t, "no record", err, 400, "RecordNotFound", noRecord+"none")
	bob := w.stranger("bob")
	_, err = bob.get(foo, "k", nil)
	wantError(t, "no repository", err, 400, "RecordNotFound", "Could not locate record: at://did:plc:bob/com.example.foo/k")
	for _, c := range []struct{ repo, collection, rkey, cid, want string }{
		{"nobody.test", foo, "k", elsewhere, "Could not find repo: nobody.test"},
		{"did:plc:nobody", foo, "k", elsewhere, "Could not find repo: did:plc:nobody"},
		{"!", foo, "k", elsewhere, `Invalid AT identifier (got "!") at $.repo`},
		{"alice.test", "x", "k", elsewhere, `Invalid NSID (got "x") at $.collection`},
		{"alice.test", foo, "a b", elsewhere, `Invalid record key (got "a b") at $.rkey`},
		{"alice.test", foo, "", elsewhere, `Invalid record key (got "") at $.rkey`},
		{"alice.test", foo, "k", "zzz", `Invalid CID string (got "zzz") at $.cid`},
	} {
		_, err := w.GetRecord(t.Context(), auth.Anyone{}, repo.GetRecordParams{Repo: c.repo, Collection: c.collection, RKey: c.rkey, CID: &c.cid})
		wantError(t, fmt.Sprintf("%+v", c), err, 400, "InvalidRequest", c.want)
	}
}

// TestListRecords: all pages, in both directions, each record once.
func TestListRecords(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	var keys []string
	in := repo.ApplyWritesInput{Repo: alice.did.String(), Writes: values(step("create", "com.example.foo.bar", "b", `{}`), step("create", "com.example.fo", "b", `{}`))}
	for i := range 120 {
		keys = append(keys, fmt.Sprintf("k%03d", i))
		in.Writes = append(in.Writes, step("create", foo, keys[i], fmt.Sprintf(`{"n":%d}`, i)))
	}
	if _, err := w.ApplyWrites(t.Context(), alice.caller, in); err != nil {
		t.Fatal(err)
	}
	list := func(p repo.ListRecordsParams) (keys []string, cursor string) {
		t.Helper()
		p.Repo, p.Collection = "alice.test", foo
		raw, err := w.ListRecords(t.Context(), auth.Anyone{}, p)
		if err != nil {
			t.Fatal(err)
		}
		var out struct {
			Records []struct {
				URI, CID string
				Value    struct{ N int }
			}
			Cursor string
		}
		if err := json.Unmarshal(raw, &out); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		for _, r := range out.Records {
			key := strings.TrimPrefix(r.URI, "at://did:plc:alice/com.example.foo/")
			if block, err := dagcbor.Encode(map[string]any{"$type": foo, "n": int64(r.Value.N)}); err != nil || dagcbor.CID(block).String() != r.CID || key != fmt.Sprintf("k%03d", r.Value.N) {
				t.Errorf("%+v, %v", r, err)
			}
			keys = append(keys, key)
		}
		return keys, out.Cursor
	}
	for _, reverse := range []bool{false, true} {
		for _, limit := range []int64{1, 7, 40, 100} {
			var got []string
			for cursor := ""; ; {
				page, next := list(repo.ListRecordsParams{Limit: new(limit), Reverse: reverse, Cursor: cursor})
				if (len(page) == 0) != (next == "") || len(page) > int(limit) {
					t.Fatalf("%d records, cursor %q", len(page), next)
				}
				if len(page) == 0 {
					break
				}
				got, cursor = append(got, page...), next
			}
			want := slices.Clone(keys)
			if !reverse {
				slices.Reverse(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("reverse %v, limit %d: %v", reverse, limit, got)
			}
		}
	}
	if page, cursor := list(repo.ListRecordsParams{}); len(page) != 50 || page[0] != "k119" || cursor != "k070" {
		t.Errorf("without a limit: %d from %q, cursor %q", len(page), page[0], cursor)
	}
	if page, cursor := list(repo.ListRecordsParams{Cursor: "k000"}); len(page) != 0 || cursor != "" {
		t.Errorf("behind the last: %v, cursor %q", page, cursor)
	}
	if page, _ := list(repo.ListRecordsParams{Cursor: "k0~/%\x00", Reverse: true, Limit: new(int64(1))}); !slices.Equal(page, []string{"k100"}) {
		t.Errorf("behind what is no key: %v", page)
	}
	for _, c := range []struct {
		repo, collection string
		limit            int64
		want             string
	}{
		{"nobody.test", foo, 1, "Could not find repo: nobody.test"},
		{"alice.test", "x", 1, `Invalid NSID (got "x") at $.collection`},
		{"alice.test", foo, 0, "integer too small (minimum 1, got 0) at $.limit"},
		{"alice.test", foo, -5, "integer too small (minimum 1, got -5) at $.limit"},
		{"alice.test", foo, 101, "integer too big (maximum 100, got 101) at $.limit"},
	} {
		_, err := w.ListRecords(t.Context(), auth.Anyone{}, repo.ListRecordsParams{Repo: c.repo, Collection: c.collection, Limit: &c.limit})
		wantError(t, fmt.Sprintf("%+v", c), err, 400, "InvalidRequest", c.want)
	}
	w.stranger("bob")
	if raw, err := w.ListRecords(t.Context(), auth.Anyone{}, repo.ListRecordsParams{Repo: "bob.test", Collection: foo}); err != nil || string(raw) != `{"records":[]}` {
		t.Errorf("no repository: %s, %v", raw, err)
	}
}

func TestDescribeRepo(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	describe := func(name string) (repo.DescribeRepoOutput, error) {
		return w.DescribeRepo(t.Context(), auth.Anyone{}, repo.DescribeRepoParams{Repo: name})
	}
	if got, err := describe("alice.test"); err != nil || len(got.Collections) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	alice.mustCreate(post, nil, postOf("x"))
	alice.mustCreate(foo, nil, `{}`)
	got, err := describe("did:plc:alice")
	if err != nil || got.Handle != "alice.test" || got.DID != "did:plc:alice" || !got.HandleIsCorrect || string(got.DIDDoc) != `{"id":"did:plc:alice"}` ||
		!slices.Equal(got.Collections, []string{post, foo}) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = describe("nobody.test")
	wantError(t, "nobody", err, 400, "RepoNotFound", "Could not find repo for DID: nobody.test")
	_, err = describe("!")
	wantError(t, "no name", err, 400, "InvalidRequest", `Invalid AT identifier (got "!") at $.repo`)
}

// TestInactive: the public sees nothing of an inactive account, and gets the reason
// if the Lexicon has a name for it.
func TestInactive(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	alice.mustCreate(foo, new("k"), `{}`)
	for _, c := range []struct {
		change        account.StatusChange
		name, message string
	}{
		{account.StatusChange{Deactivated: new(true)}, "RepoDeactivated", "Repo has been deactivated: did:plc:alice"},
		{account.StatusChange{Suspended: new(true)}, "RepoSuspended", "Repo has been suspended: did:plc:alice"},
		{account.StatusChange{Takedown: &account.Applied{Applied: true}}, "RepoTakendown", "Repo has been takendown: did:plc:alice"},
	} {
		alice.status(c.change)
		_, err := w.DescribeRepo(t.Context(), auth.Anyone{}, repo.DescribeRepoParams{Repo: "alice.test"})
		wantError(t, "describeRepo", err, 400, c.name, c.message)
		_, err = alice.get(foo, "k", nil)
		wantError(t, "getRecord", err, 400, "InvalidRequest", "Could not find repo: did:plc:alice")
		_, err = w.ListRecords(t.Context(), auth.Anyone{}, repo.ListRecordsParams{Repo: "alice.test", Collection: foo})
		wantError(t, "listRecords", err, 400, "InvalidRequest", "Could not find repo: alice.test")
	}
}

// TestRefusedRecords is the table of values that are not records, or not of their
// collection.
func TestRefusedRecords(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	at := alice.head().CID
	const legacy = `{"a":{"cid":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku","mimeType":"image/png"}}`
	for _, c := range []struct{ what, collection, rkey, record, validate, want string }{
		{"another type", foo, "k", `{"$type":"com.example.x"}`, "", "Invalid $type: expected com.example.foo, got com.example.x"},
		{"no text as type", foo, "k", `{"$type":3}`, "", "Invalid record: malformed $type at $"},
		{"no object", foo, "k", `[]`, "", "Expected object value type (got array) at $.record"},
		{"null", foo, "k", `null`, "", "Expected object value type (got null) at $.record"},
		{"a fraction", foo, "k", `{"a":[0,1.5]}`, "", "Invalid record: 1.5 is not an integer of at most 53 bits at $.a.1"},
		{"an integer that JavaScript cannot read", foo, "k", `{"a":9007199254740993}`, "", "Invalid record: 9007199254740993 is not an integer of at most 53 bits at $.a"},
		{"a link to nothing", foo, "k", `{"a":{"$link":"xyz"}}`, "", "Invalid record: malformed $link at $.a"},
		{"a bytes of nothing", foo, "k", `{"a":{"$bytes":"!"}}`, "", "Invalid record: malformed $bytes at $.a"},
		{"too deep", foo, "k", `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "false", ""},
		{"a link and more", foo, "k", `{"a":{"$link":"` + elsewhere + `","b":1}}`, "", "Invalid record: malformed $link at $.a"},
		{"not of its schema", post, "", `{"text":5}`, "", "Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.record.text"},
		{"not of its schema, asked for", post, "", `{"text":5}`, "true", "Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.record.text"},
		{"lacking a property", post, "", `{"text":""}`, "", `Invalid app.bsky.feed.post record: Missing required key "createdAt" at $.record`},
		{"a key that is no TID", post, "abc", postOf(""), "", `Invalid record key for app.bsky.feed.post: Invalid TID string (got "abc") at $`},
		{"another key than self", "app.bsky.actor.profile", "me", `{}`, "", `Invalid record key for app.bsky.actor.profile: Expected "self" (got "me") at $`},
		{"no key where it must be self", "app.bsky.actor.profile", "", `{}`, "", `Invalid record key for app.bsky.actor.profile: Expected "self" (got "`},
		{"no schema to validate by", foo, "k", `{}`, "true", "Unknown lexicon type: com.example.foo"},
		{"an old reference to a blob", foo, "k", legacy, "", "Legacy blobs are not allowed (bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku)"},
		{"the same, not validated", foo, "k", legacy, "false", "Legacy blobs are not allowed (bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku)"},
		{"no collection", "foo", "k", `{}`, "", `Invalid NSID (got "foo") at $.collection`},
		{"no key", foo, "a b", `{}`, "", `Invalid record key (got "a b") at $.rkey`},
		{"a dot as key", foo, ".", `{}`, "", `Invalid record key (got ".") at $.rkey`},
		{"a long key", foo, strings.Repeat("k", 513), `{}`, "", `Invalid record key (got "` + strings.Repeat("k", 300) + `") at $.rkey`},
	} {
		in := repo.CreateRecordInput{Repo: alice.did.String(), Collection: c.collection, Record: []byte(c.record)}
		if c.rkey != "" {
			in.RKey = &c.rkey
		}
		if c.validate != "" {
			in.Validate = new(c.validate == "true")
		}
		_, err := w.CreateRecord(t.Context(), alice.caller, in)
		if c.want == "" {
			if err == nil || !strings.Contains(err.Error(), "nested more than 64 deep") {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if c.rkey == "" && strings.HasSuffix(c.want, `(got "`) { // the server chose the key
			e, _ := errors.AsType[*xrpc.Error](err)
			if key, ok := strings.CutPrefix(e.Message, c.want); !ok || !strings.HasSuffix(key, `") at $`) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		wantError(t, c.what, err, 400, "InvalidRequest", c.want)
	}
	_, err := alice.apply(step("create", foo, "a", `{}`), step("create", post, "", `{"text":5}`))
	wantError(t, "in a batch", err, 400, "InvalidRequest", "Invalid app.bsky.feed.post record: Expected string value type (got 5) at $.writes[1].record.text")
	for raw, want := range map[string]string{
		`{}`:  `Expected an object which includes the "$type" property value type (got object) at $.writes[0]`,
		`"x"`: `Expected an object which includes the "$type" property value type (got string) at $.writes[0]`,
		`{"collection":"com.example.foo","value":{}}`:                                       `Expected an object which includes the "$type" property value type (got object) at $.writes[0]`,
		`{"$type":"com.atproto.repo.applyWrites#create","value":{}}`:                        `Missing required key "collection" at $.writes[0]`,
		`{"$type":"com.atproto.repo.applyWrites#create","collection":"com.example.foo"}`:    `Missing required key "value" at $.writes[0]`,
		`{"$type":"com.atproto.repo.applyWrites#update","collection":"a.b.c","value":{}}`:   `Missing required key "rkey" at $.writes[0]`,
		`{"$type":"com.atproto.repo.applyWrites#delete","collection":"a.b.c"}`:              `Missing required key "rkey" at $.writes[0]`,
		`{"$type":"com.atproto.repo.applyWrites#create","collection":"x","value":{}}`:       `Invalid NSID (got "x") at $.writes[0].collection`,
		`{"$type":"com.atproto.repo.applyWrites#delete","collection":"a.b.c","rkey":"a b"}`: `Invalid record key (got "a b") at $.writes[0].rkey`,
		`{"$type":"com.atproto.repo.applyWrites#create","collection":"a.b.c","value":null}`: `Expected object value type (got null) at $.writes[0].value`,
		`{"$type":"#create","collection":"a.b.c","value":{}}`:                               `Expected one of "com.atproto.repo.applyWrites#create", "com.atproto.repo.applyWrites#update" or "com.atproto.repo.applyWrites#delete" (got "#create") at $.writes[0].$type`,
	} {
		_, err := alice.apply([]byte(raw))
		wantError(t, raw, err, 400, "InvalidRequest", want)
	}
	for raw, want := range map[string]string{`3`: "Expected string value type at $.swapRecord", `"zzz"`: `Invalid CID string (got "zzz") at $.swapRecord`} {
		_, err := w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{Repo: "alice.test", Collection: foo, RKey: "k", Record: []byte(`{}`), SwapRecord: []byte(raw)})
		wantError(t, "put, swap "+raw, err, 400, "InvalidRequest", want)
	}
	_, err = w.DeleteRecord(t.Context(), alice.caller, repo.DeleteRecordInput{Repo: "alice.test", Collection: foo, RKey: "k", SwapRecord: new("")})
	wantError(t, "delete, swap nothing", err, 400, "InvalidRequest", `Invalid CID string (got "") at $.swapRecord`)
	_, err = w.DeleteRecord(t.Context(), alice.caller, repo.DeleteRecordInput{Repo: "alice.test", Collection: foo, RKey: "k", SwapCommit: new("x")})
	wantError(t, "delete, swap x", err, 400, "InvalidRequest", `Invalid CID string (got "x") at $.swapCommit`)
	if alice.head().CID != at {
		t.Error("a refused record made a commit")
	}
}

// TestValidate: the validation asked for, and the status that the client gets.
func TestValidate(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	for _, c := range []struct{ collection, record, validate, want string }{
		{post, postOf(""), "", "valid"},
		{post, postOf(""), "true", "valid"},
		{post, postOf(""), "false", ""},
		{post, `{"text":5}`, "false", ""},
		{foo, `{}`, "", "unknown"},
		{foo, `{}`, "false", ""},
	} {
		in := repo.CreateRecordInput{Repo: "alice.test", Collection: c.collection, Record: []byte(c.record)}
		if c.validate != "" {
			in.Validate = new(c.validate == "true")
		}
		if out, err := w.CreateRecord(t.Context(), alice.caller, in); err != nil || out.ValidationStatus != c.want {
			t.Errorf("%+v: %+v, %v", c, out, err)
		}
	}
	// Without validation a record may have any key.
	_, err := w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{Repo: "alice.test", Collection: post, RKey: "abc", Record: []byte(postOf("")), Validate: new(false)})
	if err != nil {
		t.Error(err)
	}
	alice.verifyChain(0)
}
