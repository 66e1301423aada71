package identity_test

import (
	"testing"
	"time"

	"nestbox/identity"
)

func TestNews(t *testing.T) {
	was := identity.Subject{Document: []byte(`{"id":"did:plc:abc","x":[1, 2]}`)}
	hidden, invalid := was, was
	hidden.Hidden, invalid.HandleInvalid = true, true
	for _, c := range []struct {
		name     string
		was      identity.Subject
		document string
		invalid  bool
		want     bool
	}{
		{"the same", was, `{"id":"did:plc:abc","x":[1, 2]}`, false, false},
		{"written differently", was, `{"x":[1,2],"id":"did:plc:abc"}`, false, false},
		{"another document", was, `{"id":"did:plc:abc","x":[2, 1]}`, false, true},
		{"no document", was, ``, false, true},
		{"not JSON", was, `{`, false, true},
		{"the handle no longer verifies", was, `{"id":"did:plc:abc","x":[1, 2]}`, true, true},
		{"the handle verifies again", invalid, `{"id":"did:plc:abc","x":[1, 2]}`, false, true},
		{"it still does not verify", invalid, `{"id":"did:plc:abc","x":[1, 2]}`, true, false},
		{"a hidden account", hidden, `{}`, true, false},
	} {
		if got := c.was.News([]byte(c.document), c.invalid); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

func TestSame(t *testing.T) {
	s := identity.Subject{AccountID: 7, Handle: "alice.test", SigningKey: "did:key:a", Document: []byte(`{}`), CheckedAt: time.UnixMilli(1000)}
	if !s.Same(s) {
		t.Error("not the same as itself")
	}
	for name, change := range map[string]func(*identity.Subject){
		"handle":   func(s *identity.Subject) { s.Handle = "bob.test" },
		"key":      func(s *identity.Subject) { s.SigningKey = "did:key:b" },
		"hidden":   func(s *identity.Subject) { s.Hidden = true },
		"checked":  func(s *identity.Subject) { s.CheckedAt = time.UnixMilli(2000) },
		"document": func(s *identity.Subject) { s.Document = []byte(`{ }`) },
	} {
		now := s
		if change(&now); s.Same(now) || now.Same(s) {
			t.Errorf("another %s is the same", name)
		}
	}
}
