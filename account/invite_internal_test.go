package account

import (
	"errors"
	"testing"
	"time"
)

// TestInvitesEarned: one code for each whole interval since the epoch, five of them
// unused at a time.
func TestInvitesEarned(t *testing.T) {
	born := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	const week = 7 * 24 * time.Hour
	own := func(n int, made time.Time, c InviteCode) (codes []InviteCode) {
		c.CreatedAt, c.Available = made, 1
		if c.CreatedBy == "" {
			c.CreatedBy = "did:plc:x"
		}
		for range n {
			codes = append(codes, c)
		}
		return codes
	}
	used := InviteCode{Uses: []InviteUse{{}}}
	for name, c := range map[string]struct {
		weeks float64 // of life
		epoch time.Time
		own   []InviteCode
		want  int
	}{
		"a moment less than one": {0.999, time.Time{}, nil, 0},
		"one":                    {1, time.Time{}, nil, 1},
		"three and a half":       {3.5, time.Time{}, nil, 3},
		"no more than five":      {9, time.Time{}, nil, 5},
		"some unused":            {9, time.Time{}, own(2, born, InviteCode{}), 3},
		"five unused":            {9, time.Time{}, own(5, born, InviteCode{}), 0},
		"those used":             {9, time.Time{}, own(7, born, used), 2},
		"all used":               {9, time.Time{}, own(9, born, used), 0},
		"more than earned":       {9, time.Time{}, own(11, born, used), 0},
		"disabled ones":          {9, time.Time{}, own(6, born, InviteCode{Disabled: true}), 3},
		"the admin's":            {9, time.Time{}, own(5, born, InviteCode{CreatedBy: InvitesByAdmin}), 5},
		"born before the epoch":  {9, born.Add(7*week + week/2), nil, 2},
		"the epoch is ahead":     {3, born.Add(4 * week), nil, 0},
		"made before the epoch":  {9, born.Add(7 * week), own(6, born.Add(week), used), 2},
		"born at the epoch":      {2, born, nil, 2},
	} {
		now := born.Add(time.Duration(c.weeks * float64(week)))
		if got := invitesEarned(born, c.epoch, now, week, c.own); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// TestInviteAdmits: a code lets as many sign up as it has uses, the same DID again, until
// it is disabled or its owner is taken down.
func TestInviteAdmits(t *testing.T) {
	t.Parallel()
	down := Measures{TakenDownAt: time.UnixMilli(1)}
	for name, c := range map[string]struct {
		code  InviteCode
		used  int
		again bool
		owner Measures
		want  error
	}{
		"the first use":                 {InviteCode{Available: 1}, 0, false, Measures{}, nil},
		"the last of two":               {InviteCode{Available: 2}, 1, false, Measures{}, nil},
		"used up":                       {InviteCode{Available: 1}, 1, false, Measures{}, ErrInviteUsed},
		"used up by the same":           {InviteCode{Available: 1}, 1, true, Measures{}, nil},
		"disabled":                      {InviteCode{Available: 1, Disabled: true}, 0, false, Measures{}, ErrInviteUsed},
		"disabled, used by the same":    {InviteCode{Available: 1, Disabled: true}, 1, true, Measures{}, ErrInviteUsed},
		"its owner taken down":          {InviteCode{Available: 1}, 0, false, down, ErrInviteUsed},
		"its owner suspended":           {InviteCode{Available: 1}, 0, false, Measures{SuspendedAt: time.UnixMilli(1)}, nil},
		"its owner earns no more codes": {InviteCode{Available: 1}, 0, false, Measures{InvitesDisabled: true}, nil},
	} {
		if err := c.code.Admits(c.used, c.again, c.owner); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
