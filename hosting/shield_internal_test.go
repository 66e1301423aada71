package hosting

import "testing"

// TestCrowded: the operator is warned from nine tenths on.
func TestCrowded(t *testing.T) {
	for _, c := range []struct {
		limit, accounts int64
		want            bool
	}{
		{100, 89, false}, {100, 90, true}, {100, 100, true}, {100, 5000, true}, {1000, 899, false}, {1000, 900, true}, {5, 4, false}, {5, 5, true}, {0, 1000, false},
	} {
		s := Service{Settings: Settings{RelayLimit: c.limit}}
		if got := s.Crowded(c.accounts); got != c.want {
			t.Errorf("%d of %d: %t", c.accounts, c.limit, got)
		}
	}
}
