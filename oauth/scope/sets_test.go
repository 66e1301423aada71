package scope_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/oauth/scope"
)

// setOf returns the set a.b.authAll of the permissions, JSON.
func setOf(t *testing.T, permissions ...string) *scope.PermissionSet {
	t.Helper()
	s, err := scope.ParsePermissionSet("a.b.authAll", document("a.b.authAll", permissions...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func document(id string, permissions ...string) []byte {
	return fmt.Appendf(nil, `{"lexicon":1,"id":%q,"$type":"com.atproto.lexicon.schema","defs":{"main":{"type":"permission-set","title":"All of A",
		"title:lang":{"de":"Alles von A","pt-BR":"Tudo"},"detail":"Read and write","detail:lang":{"de":"Lesen und schreiben"},"permissions":[%s]}}}`,
		id, strings.Join(permissions, ","))
}

// TestExpand has what an entry of a set grants.
func TestExpand(t *testing.T) {
	const include, service = "include:a.b.authAll", "did:web:x.example%23s"
	permission := func(rest string) string { return `{"type":"permission",` + rest + `}` }
	for _, c := range []struct {
		name, entry string
		want        string // with the audience "service"
		wantBare    string // without one
	}{
		{"a collection", permission(`"resource":"repo","collection":["a.b.c"]`), "repo:a.b.c", "repo:a.b.c"},
		{
			"collections and actions", permission(`"resource":"repo","collection":["a.b.d","a.b.c","a.b.c.d"],"action":["delete","create"]`),
			"repo?collection=a.b.c&collection=a.b.c.d&collection=a.b.d&action=create&action=delete", "=",
		},
		{"a method at any service", permission(`"resource":"rpc","lxm":["a.b.getX"],"aud":"*"`), "rpc:a.b.getX?aud=*", "="},
		{"the same, explicitly", permission(`"resource":"rpc","lxm":["a.b.getX"],"aud":"*","inheritAud":false`), "rpc:a.b.getX?aud=*", "="},
		{"a method at the scope's service", permission(`"resource":"rpc","lxm":["a.b.getX"],"inheritAud":true`), "rpc:a.b.getX?aud=" + service, ""},
		{"a description", permission(`"resource":"repo","description":"x","collection":["a.b.c"]`), "repo:a.b.c", "="},

		{"any collection", permission(`"resource":"repo","collection":["*"]`), "", "="},
		{"any and one", permission(`"resource":"repo","collection":["*","a.b.c"]`), "", "="},
		{"any method", permission(`"resource":"rpc","lxm":["*"],"inheritAud":true`), "", "="},
		{"another namespace", permission(`"resource":"repo","collection":["a.bx.c"]`), "", "="},
		{"the parent's namespace", permission(`"resource":"repo","collection":["a.c.d"]`), "", "="},
		{"one of two outside", permission(`"resource":"repo","collection":["a.b.c","a.bx.c"]`), "", "="},
		{"a method outside", permission(`"resource":"rpc","lxm":["a.bx.getX"],"aud":"*"`), "", "="},
		{"a namespace in another case", permission(`"resource":"repo","collection":["A.b.c"]`), "", "="},
		{"not an NSID", permission(`"resource":"repo","collection":["a.b."]`), "", "="},
		{"no collection", permission(`"resource":"repo","collection":[]`), "", "="},
		{"one that is not in a list", permission(`"resource":"repo","collection":"a.b.c"`), "", "="},
		{"an unknown action", permission(`"resource":"repo","collection":["a.b.c"],"action":["create","read"]`), "", "="},
		{"no action", permission(`"resource":"repo","collection":["a.b.c"],"action":[]`), "", "="},
		{"no audience", permission(`"resource":"rpc","lxm":["a.b.getX"]`), "", "="},
		{"a refused audience", permission(`"resource":"rpc","lxm":["a.b.getX"],"inheritAud":false`), "", "="},
		{"two audiences", permission(`"resource":"rpc","lxm":["a.b.getX"],"aud":"*","inheritAud":true`), "", "="},
		{"an audience of its own", permission(`"resource":"rpc","lxm":["a.b.getX"],"aud":"did:web:x.example#s"`), "", "="},
		{"an audience on a collection", permission(`"resource":"repo","collection":["a.b.c"],"aud":"*"`), "", "="},
		{"a collection on a method", permission(`"resource":"rpc","lxm":["a.b.getX"],"aud":"*","collection":["a.b.c"]`), "", "="},
		{"blobs", permission(`"resource":"blob","accept":["*/*"]`), "", "="},
		{"the account", permission(`"resource":"account","attr":"repo","action":["manage"]`), "", "="},
		{"the identity", permission(`"resource":"identity","attr":"*"`), "", "="},
		{"another set", permission(`"resource":"include","nsid":"a.b.authOther"`), "", "="},
		{"an unknown resource", permission(`"resource":"space","space":["a.b.c"]`), "", "="},
		{"an unknown field", permission(`"resource":"repo","collection":["a.b.c"],"rkey":["x"]`), "", "="},
		{"an unknown type", `{"type":"grant","resource":"repo","collection":["a.b.c"]}`, "", "="},
		{"no object", `"repo:a.b.c"`, "", "="},
		{"null", `null`, "", "="},
		{"a field twice in its sense", permission(`"resource":"repo","Collection":["a.b.c"]`), "", "="},
	} {
		if c.wantBare == "=" {
			c.wantBare = c.want
		}
		// What is wrong in one entry leaves its neighbours alone.
		sets := map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": setOf(t, c.entry, permission(`"resource":"repo","collection":["a.b.zz"],"action":["create"]`))}
		for _, with := range []struct{ token, want string }{
			{include + "?aud=" + service, c.want},
			{include + "?aud=*", strings.ReplaceAll(c.want, service, "*")},
			{include, c.wantBare},
		} {
			got, err := scope.Parse("atproto " + with.token).Expand(sets)
			want := scope.Parse("atproto repo:a.b.zz?action=create " + with.want).String()
			if err != nil || got.String() != want {
				t.Errorf("%s, %s: got %q %v, want %q", c.name, with.token, got, err, want)
			}
		}
	}
}

func TestExpandKeepsTheRest(t *testing.T) {
	sets := map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": setOf(t, `{"type":"permission","resource":"repo","collection":["a.b.c"]}`)}
	set := scope.Parse("atproto repo:a.b.c include:a.b.authAll include:c.d.authX blob:*/* include:a.b.authAll?aud=*")
	if got := set.Includes(); !slices.Equal(got, []syntax.NSID{"a.b.authAll", "c.d.authX"}) {
		t.Errorf("includes %q", got)
	}
	got, err := set.Expand(sets)
	if want := "atproto blob:*/* include:c.d.authX repo:a.b.c"; err != nil || got.String() != want {
		t.Errorf("got %q %v, want %q", got, err, want)
	}
	if set.AllowsRepo("a.b.c", scope.Delete) != true || got.AllowsRepo("a.b.c", scope.Delete) != true || got.AllowsRepo("c.d.x", scope.Create) {
		t.Error("what the scopes allow is not what they hold")
	}
}

func TestExpandIsBounded(t *testing.T) {
	collections := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%q", fmt.Sprintf("a.b.c%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676)))
		}
		return `{"type":"permission","resource":"repo","collection":[` + strings.Join(list, ",") + `]}`
	}
	for n, want := range map[int]error{scope.MaxExpanded: nil, scope.MaxExpanded + 1: scope.ErrLimit} {
		sets := map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": setOf(t, collections(n))}
		if _, err := scope.Parse("include:a.b.authAll").Expand(sets); !errors.Is(err, want) {
			t.Errorf("%d collections: %v, want %v", n, err, want)
		}
	}
}

func TestParsePermissionSet(t *testing.T) {
	for _, c := range []struct{ name, document, want string }{
		{"of another name", string(document("a.b.authOther")), `its id is "a.b.authOther"`},
		{"of another language", `{"lexicon":2,"id":"a.b.authAll","defs":{"main":{"type":"permission-set"}}}`, "its lexicon is 2"},
		{"a record's schema", `{"lexicon":1,"id":"a.b.authAll","defs":{"main":{"type":"record"}}}`, `its type is "record"`},
		{"without main", `{"lexicon":1,"id":"a.b.authAll","defs":{"other":{"type":"permission-set"}}}`, `its type is ""`},
		{"not JSON", `{`, "EOF"},
		{"a list", `[]`, "not a permission set"},
		{"a member twice", `{"lexicon":1,"lexicon":1,"id":"a.b.authAll","defs":{"main":{"type":"permission-set"}}}`, "duplicate"},
		{"permissions that are none", `{"lexicon":1,"id":"a.b.authAll","defs":{"main":{"type":"permission-set","permissions":{}}}}`, "not a permission set"},
	} {
		_, err := scope.ParsePermissionSet("a.b.authAll", []byte(c.document))
		if !errors.Is(err, scope.ErrNoSet) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if s, err := scope.ParsePermissionSet("a.b.authAll", []byte(`{"lexicon":1,"id":"a.b.authAll","defs":{"main":{"type":"permission-set"}}}`)); err != nil {
		t.Error(s, err)
	}
}

func TestWords(t *testing.T) {
	s := setOf(t)
	for lang, want := range map[string]string{
		"":        "All of A/Read and write",
		"fr":      "All of A/Read and write",
		"de":      "Alles von A/Lesen und schreiben",
		"de-AT":   "Alles von A/Lesen und schreiben",
		"DE":      "Alles von A/Lesen und schreiben",
		"pt-br":   "Tudo/Read and write",
		"pt":      "All of A/Read and write",
		"fr,de":   "Alles von A/Lesen und schreiben",
		"fr,-,de": "Alles von A/Lesen und schreiben",
	} {
		title, detail := s.Words(strings.Split(lang, ",")...)
		if got := title + "/" + detail; got != want {
			t.Errorf("%q: %s, want %s", lang, got, want)
		}
	}
	if got := s.Publisher(); got != "b.a" {
		t.Errorf("published by %s", got)
	}

	hostile, err := scope.ParsePermissionSet("a.b.authAll", []byte(`{"lexicon":1,"id":"a.b.authAll","defs":{"main":{"type":"permission-set",
		"title":" Safe\u202e\u0000\u0007 \n title\u200b","detail":"`+strings.Repeat("x", 5000)+`"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if title, detail := hostile.Words("en"); title != "Safe   title" || len(detail) > 500 || !strings.HasSuffix(detail, "x…") {
		t.Errorf("title %q, detail of %d bytes", title, len(detail))
	}
}

// TestPermissions has what the consent page shows of a scope.
func TestPermissions(t *testing.T) {
	sets := map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": setOf(t,
		`{"type":"permission","resource":"repo","collection":["a.b.c"]}`,
		`{"type":"permission","resource":"rpc","lxm":["a.b.getX"],"inheritAud":true}`,
	), "a.bx.authDeep": func() *scope.PermissionSet {
		s, err := scope.ParsePermissionSet("a.bx.authDeep", document("a.bx.authDeep", `{"type":"permission","resource":"repo","collection":["a.c.d"]}`))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}()}
	const asked = "identity:*? include:a.b.authAll?aud=did:web:x.example#s include:a.bx.authDeep include:c.d.authGone atproto unknown:x " +
		"repo?collection=a.b.d&collection=a.b.c&action=create repo:* rpc:a.b.getY?aud=did:web:x.example#s account:repo?action=manage account:repo " +
		"account:status?action=manage account:email?action=manage blob:Image/* transition:generic transition:email transition:chat.bsky identity:handle " +
		"account?attr=repo&action=manage"
	var got []string
	for _, p := range scope.Parse(asked).Permissions(sets) {
		line := p.Raw + " |" + string(p.Kind)
		for _, part := range []struct {
			name  string
			value string
			is    bool
		}{
			{"collections", strings.Join(p.Collections, ","), p.Collections != nil},
			{"actions", strings.Join(p.Actions.Names(), ","), p.Actions != 0},
			{"methods", strings.Join(p.Methods, ","), p.Methods != nil},
			{"aud", p.Audience, p.Audience != ""},
			{"accept", strings.Join(p.Accept, ","), p.Accept != nil},
			{"attr", p.Attr, p.Attr != ""},
			{"manage", "", p.Manage},
			{"set", p.NSID.String(), p.NSID != ""},
			{"known", fmt.Sprint(len(p.Members)), p.Set != nil},
			{"BROAD", "", p.Broad()},
			{"DANGEROUS", "", p.Dangerous()},
			{"fixed", "", !p.CanBeUnticked()},
		} {
			if part.is {
				line += " " + strings.TrimSuffix(part.name+"="+part.value, "=")
			}
		}
		got = append(got, line)
	}
	want := []string{
		"atproto |atproto fixed",
		"account:email?action=manage |account attr=email manage",
		"account:repo |account attr=repo",
		"account:repo?action=manage |account attr=repo manage DANGEROUS",
		"account:status?action=manage |account attr=status manage DANGEROUS",
		"blob:Image/* |blob accept=image/*",
		"identity:*? |identity attr=* DANGEROUS",
		"identity:handle |identity attr=handle",
		"include:a.b.authAll?aud=did:web:x.example#s |include aud=did:web:x.example#s set=a.b.authAll known=2",
		"include:a.bx.authDeep |include set=a.bx.authDeep known=0",
		"include:c.d.authGone |include set=c.d.authGone",
		"repo:* |repo collections=* actions=create,update,delete BROAD",
		"repo?collection=a.b.d&collection=a.b.c&action=create |repo collections=a.b.c,a.b.d actions=create",
		"rpc:a.b.getY?aud=did:web:x.example#s |rpc methods=a.b.getY aud=did:web:x.example#s",
		"transition:chat.bsky |transition:chat.bsky fixed",
		"transition:email |transition:email fixed",
		"transition:generic |transition:generic BROAD fixed",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	if got := scope.Parse("atproto transition:chat.bsky").Permissions(nil); len(got) != 1 || got[0].Kind != scope.Atproto {
		t.Errorf("direct messages without transition:generic mean nothing, but are shown: %v", got)
	}
}

// TestUntick: a permission is taken by its meaning, and what must stay stays.
func TestUntick(t *testing.T) {
	set := scope.Parse("atproto transition:generic repo?collection=a.b.c&collection=a.b.d repo:a.b.c identity:* include:a.b.authAll")
	for taken, want := range map[string]string{
		"repo?collection=a.b.d&collection=a.b.c": "atproto identity:* include:a.b.authAll repo:a.b.c transition:generic",
		"repo:a.b.c":                             "atproto identity:* include:a.b.authAll repo?collection=a.b.c&collection=a.b.d transition:generic",
		"include?nsid=a.b.authAll":               "atproto identity:* repo:a.b.c repo?collection=a.b.c&collection=a.b.d transition:generic",
		"atproto":                                set.String(), "repo:x.y.z": set.String(), "": set.String(), "nonsense": set.String(),
	} {
		if got := set.Untick(taken).String(); got != want {
			t.Errorf("without %q: %q, want %q", taken, got, want)
		}
	}
}

// TestGranted has what an account grants that unticked permissions.
func TestGranted(t *testing.T) {
	asked := scope.Parse("atproto transition:generic repo?collection=a.b.c&collection=a.b.d rpc:a.b.x?aud=* identity:* include:a.b.authAll unknown:x")
	for _, c := range []struct {
		name   string
		ticked []string
		want   string
	}{
		{"nothing", nil, "atproto transition:generic"},
		{
			"some, as they were requested and otherwise",
			[]string{"repo?collection=a.b.d&collection=a.b.c", "include?nsid=a.b.authAll"},
			"atproto include:a.b.authAll repo?collection=a.b.c&collection=a.b.d transition:generic",
		},
		{"what nobody asked for", []string{"repo:*", "account:email", "transition:email", "identity:* repo:*"}, "atproto identity:* transition:generic"},
		{
			"all",
			[]string{"repo?collection=a.b.c&collection=a.b.d", "rpc:a.b.x?aud=*", "identity:*", "include:a.b.authAll", "unknown:x"},
			asked.String(),
		},
	} {
		if got := asked.Granted(c.ticked); got.String() != c.want {
			t.Errorf("%s: granted %q, want %q", c.name, got, c.want)
		}
	}
}
