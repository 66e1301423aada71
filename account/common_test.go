package account_test

import (
	"errors"
	"testing"

	"nestbox/account"
)

// TestCheckChosenPassword is the table of the pages' rules.
func TestCheckChosenPassword(t *testing.T) {
	for _, c := range []struct {
		password, handle, email string
		want                    error
	}{
		{"correct horse", "alice.example.com", "alice@example.com", nil},
		{"12345678", "", "", account.ErrPasswordCommon},
		{"PassWord1", "", "", account.ErrPasswordCommon},
		{" qwertyuiop ", "", "", account.ErrPasswordCommon},
		{"zzzzzzzzzz0", "", "", nil},
		{"alice.example.com", "alice.example.com", "", account.ErrPasswordName},
		{"Alexandrine", "alexandrine.example.com", "", account.ErrPasswordName},
		{"a.long.name@example.com", "", "A.Long.Name@example.com", account.ErrPasswordName},
		{"a.long.name", "", "a.long.name@example.com", account.ErrPasswordName},
		{"short", "short.example.com", "", account.ErrPasswordTooShort},
		{"nul\x00nul\x00", "", "", account.ErrPasswordForm},
	} {
		if err := account.CheckChosenPassword(c.password, c.handle, c.email); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%q: %v, want %v", c.password, err, c.want)
		}
	}
}
