package scope_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"pgregory.net/rapid"

	"nestbox/oauth/scope"
)

// tokens draws tokens that parse, in all the forms that the language has.
func tokens() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		nsid := rapid.SampledFrom([]string{"a.b.c", "a.b.d", "a.b.c.d", "app.example.feed.post", "a.b.*"[:5], "*"})
		action := rapid.SampledFrom([]string{"create", "update", "delete"})
		audience := rapid.SampledFrom([]string{"*", "did:web:x.example#s", "did:web:x.example%23s", "did:plc:y%23S", "did:web:localhost%253A99#a=b"})
		accept := rapid.SampledFrom([]string{"*/*", "image/*", "image/png", "Image/GIF", "image/svg+xml", "x/%23y"})
		kind := rapid.SampledFrom([]string{"static", "repo", "rpc", "blob", "account", "identity", "include"}).Draw(t, "kind")
		var first, name string
		var params []string
		many := func(name string, values *rapid.Generator[string], least int) {
			for range rapid.IntRange(least, 3).Draw(t, name+"s") {
				params = append(params, name+"="+values.Draw(t, name))
			}
		}
		switch kind {
		case "static":
			return rapid.SampledFrom([]string{"atproto", "transition:generic", "transition:email", "transition:chat.bsky"}).Draw(t, "static")
		case "repo":
			many("action", action, 0)
			name, first = "collection", nsid.Draw(t, "nsid")
		case "rpc":
			many("lxm", rapid.SampledFrom([]string{"a.b.c", "a.b.d"}), 1)
			return shuffled(t, "rpc", append(params, "aud="+audience.Draw(t, "aud")))
		case "blob":
			many("accept", accept, 1)
			return shuffled(t, "blob", params)
		case "account":
			many("action", rapid.SampledFrom([]string{"read", "manage"}), 0)
			name, first = "attr", rapid.SampledFrom([]string{"email", "repo", "status"}).Draw(t, "attr")
		case "identity":
			name, first = "attr", rapid.SampledFrom([]string{"handle", "*"}).Draw(t, "attr")
		case "include":
			if rapid.Bool().Draw(t, "has aud") {
				params = append(params, "aud="+audience.Draw(t, "aud"))
			}
			name, first = "nsid", "a.b.authAll"
		}
		if rapid.Bool().Draw(t, "positional") {
			return shuffled(t, kind+":"+first, params)
		}
		return shuffled(t, kind, append(params, name+"="+first))
	})
}

func shuffled(t *rapid.T, head string, params []string) string {
	return head + "?" + strings.Join(rapid.Permutation(params).Draw(t, "order"), "&")
}

// needs draws needs that such tokens may meet.
func needs() *rapid.Generator[scope.Need] {
	return rapid.Custom(func(t *rapid.T) scope.Need {
		nsid := rapid.SampledFrom([]string{"a.b.c", "a.b.d", "a.b.e", "chat.bsky.convo.x"}).Draw(t, "name")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return scope.NeedRepo(nsid, scope.Actions(rapid.IntRange(1, 7).Draw(t, "actions")))
		case 1:
			return scope.NeedRPC(rapid.SampledFrom([]string{nsid, scope.Any}).Draw(t, "method"), rapid.SampledFrom([]string{"did:web:x.example#s", "did:plc:y#S", "did:plc:y#s", "did:plc:y"}).Draw(t, "aud"))
		case 2:
			return scope.NeedBlob(rapid.SampledFrom([]string{"image/png", "image/gif", "text/plain"}).Draw(t, "type"))
		case 3:
			return scope.NeedAccount(rapid.SampledFrom([]string{"email", "repo"}).Draw(t, "attr"), rapid.Bool().Draw(t, "manage"))
		default:
			return scope.NeedIdentity(rapid.SampledFrom([]string{"handle", "*"}).Draw(t, "attr"))
		}
	})
}

// TestParseProperties: the normal form is that of the same scope, whatever the order
// and form of what was asked for; a scope allows what one of its tokens allows, and the
// narrowest scope of a need meets it.
func TestParseProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(tokens(), 1, 6).Draw(t, "tokens")
		asked := scope.Parse(strings.Join(list, " "))
		if again := scope.Parse(asked.String()); again.String() != asked.String() || len(again.Dropped()) > 0 || again.Len() != asked.Len() {
			t.Fatalf("%q is read as %q, dropping %q", asked, again, again.Dropped())
		}
		other := append(slices.Clone(list), list[0])
		rand.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		if got := scope.Parse(strings.Join(other, "  ")); got.String() != asked.String() {
			t.Fatalf("%q in another order is %q", asked, got)
		}
		if missing := asked.Missing(asked); len(missing) > 0 {
			t.Fatalf("%q misses its own %q", asked, missing)
		}

		need := needs().Draw(t, "need")
		byOne := false
		for token := range strings.FieldsSeq(asked.String()) {
			byOne = byOne || scope.Parse(token).Allows(need)
		}
		single := !strings.Contains(need.String(), "&") && !asked.Has(scope.TransitionChat)
		if all := asked.Allows(need); byOne && !all || single && all && !byOne {
			t.Fatalf("%q allows %s: %t, but one token of it: %t", asked, need, all, byOne)
		}
		if own := scope.Parse(need.String()); !own.Allows(need) || own.String() != need.String() {
			t.Fatalf("%q does not meet its own need", need)
		}
	})
}

// TestWithoutProperties: what another set allows is not allowed any more.
func TestWithoutProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(tokens(), 1, 4)
		set := scope.Parse(strings.Join(list.Draw(t, "set"), " "))
		other := scope.Parse(strings.Join(list.Draw(t, "other"), " "))
		need, rest := needs().Draw(t, "need"), set.Without(other)
		if other.Allows(need) && rest.Allows(need) {
			t.Fatalf("%q without %q is %q, which allows %s", set, other, rest, need)
		}
		if missing := set.Missing(rest); len(missing) > 0 {
			t.Fatalf("%q without %q has more: %q", set, other, missing)
		}
	})
}

// TestExpandProperties: a set grants nothing outside of its namespace, nothing but
// writes and calls, and what it grants parses.
func TestExpandProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SampledFrom([]string{"a.b.c", "a.b.d.x", "a.bx.c", "a.c", "*", "b.c.d", "a.b", "a.b.c.d.e"})
		entry := rapid.Custom(func(t *rapid.T) string {
			ids := fmt.Sprintf("%q", rapid.SliceOfN(id, 0, 3).Draw(t, "ids"))
			return fmt.Sprintf(`{"type":"permission","resource":%q,%q:%s%s}`,
				rapid.SampledFrom([]string{"repo", "rpc", "blob", "account", "identity", "include"}).Draw(t, "resource"),
				rapid.SampledFrom([]string{"collection", "lxm", "accept", "attr"}).Draw(t, "field"),
				strings.ReplaceAll(ids, `" "`, `","`),
				rapid.SampledFrom([]string{"", `,"aud":"*"`, `,"inheritAud":true`, `,"aud":"did:web:x.example#s"`, `,"action":["create"]`}).Draw(t, "rest"))
		})
		raw := document("a.b.authAll", rapid.SliceOfN(entry, 0, 5).Draw(t, "entries")...)
		set, err := scope.ParsePermissionSet("a.b.authAll", raw)
		if err != nil {
			t.Fatal(err)
		}
		aud := rapid.SampledFrom([]string{"", "?aud=*", "?aud=did:web:x.example%23s"}).Draw(t, "aud")
		got, err := scope.Parse("include:a.b.authAll" + aud).Expand(map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": set})
		if err != nil {
			t.Fatal(err)
		}
		onlyInside(t, got)
	})
}

func onlyInside(t interface{ Fatalf(string, ...any) }, expanded scope.Set) {
	if again := scope.Parse(expanded.String()); again.String() != expanded.String() || len(again.Dropped()) > 0 {
		t.Fatalf("%q is read as %q, dropping %q", expanded, again, again.Dropped())
	}
	for _, p := range expanded.Permissions(nil) {
		for _, name := range slices.Concat(p.Collections, p.Methods) {
			if !strings.HasPrefix(name, "a.b.") {
				t.Fatalf("%q grants %s", expanded, name)
			}
		}
		if p.Kind != scope.Repo && p.Kind != scope.RPC {
			t.Fatalf("%q grants a %s", expanded, p.Kind)
		}
	}
}

// FuzzScope: no text panics, nothing is lost, and the normal form is stable.
func FuzzScope(f *testing.F) {
	for _, seed := range []string{
		"atproto transition:generic repo:a.b.c?action=create rpc?lxm=*&aud=did:web:x.example%23svc", "blob?accept=video/*&accept=text/html",
		"account:email?action=manage identity:*? include:a.b.c?aud=*", "repo:%2", "rpc:a.b.getX?aud=did:web:localhost%253A99%23svc", "repo:a.b.c?&", "é :? =",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set := scope.Parse(text)
		for token := range strings.SplitSeq(text, " ") {
			one := scope.Parse(token)
			if one.Len()+len(one.Dropped()) != min(len(token), 1) {
				t.Fatalf("%q is read as %q, dropping %q", token, one, one.Dropped())
			}
			if one.Len() > 0 && len(set.Missing(one)) > 0 {
				t.Fatalf("%q was lost from %q", token, text)
			}
		}
		again := scope.Parse(set.String())
		if again.String() != set.String() || len(again.Dropped()) > 0 {
			t.Fatalf("%q is read as %q, dropping %q", set, again, again.Dropped())
		}
		for _, r := range set.String() {
			if r < ' ' || r > '~' || r == '"' || r == '\\' {
				t.Fatalf("%q has %q", set, r)
			}
		}
	})
}

// FuzzPermissionSet: no document panics or grants anything outside of its namespace.
func FuzzPermissionSet(f *testing.F) {
	f.Add(document("a.b.authAll", `{"type":"permission","resource":"repo","collection":["a.b.c"]}`, `{"type":"permission","resource":"rpc","lxm":["a.b.getX"],"inheritAud":true}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		set, err := scope.ParsePermissionSet("a.b.authAll", raw)
		if err != nil {
			return
		}
		got, err := scope.Parse("include:a.b.authAll?aud=did:web:x.example%23s").Expand(map[syntax.NSID]*scope.PermissionSet{"a.b.authAll": set})
		if err != nil {
			return
		}
		onlyInside(t, got)
	})
}

// TestAllowsAllocatesNothing: each call of an app asks.
func TestAllowsAllocatesNothing(t *testing.T) {
	set := large(t)
	if n := testing.AllocsPerRun(100, func() { askAll(set) }); n > 0 {
		t.Errorf("asking allocates %v times", n)
	}
}

func large(t testing.TB) scope.Set {
	t.Helper()
	var b strings.Builder
	b.WriteString("atproto blob:image/* blob:video/mp4 account:email")
	for i := range 2000 {
		fmt.Fprintf(&b, " repo:a.b.c%d.x rpc:a.b.m%d.x?aud=did:web:x.example%%23svc", i, i)
	}
	set := scope.Parse(strings.ReplaceAll(b.String(), ".c", ".c-"))
	if set.Len() != 4004 {
		t.Fatalf("%d permissions", set.Len())
	}
	return set
}

func askAll(set scope.Set) bool {
	return set.AllowsRepo("a.b.c-1999.x", scope.Create) && set.AllowsRPC("a.b.m1999.x", "did:web:x.example#svc") &&
		set.AllowsRPC("a.b.m1999.x", "did:web:x.example") && set.AllowsBlob("Video/MP4; x=y") && set.AllowsAccount(scope.Email, false)
}

func BenchmarkAllows(b *testing.B) {
	set := large(b)
	b.ReportAllocs()
	for b.Loop() {
		if !askAll(set) {
			b.Fatal("refused")
		}
	}
}
