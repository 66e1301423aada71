package findings_test

import (
	"fmt"
	"testing"
	"time"

	"nestbox/faults/findings"
	"nestbox/internal/costtest"
)

// TestCost: twice as many calls take twice as long to judge, whatever they are.
func TestCost(t *testing.T) {
	for name, nth := range map[string]func(i int) findings.Call{
		"refreshes of one session": func(i int) findings.Call {
			return at(time.Duration(i)*time.Minute, quick, findings.Call{
				Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Generation: int64(i), Given: int64(i) + 1, Life: life,
			})
		},
		"refreshes at once": func(i int) findings.Call {
			return at(time.Duration(i)*time.Microsecond, time.Second, findings.Call{
				Purpose: findings.Refresh, Method: "refreshSession", Token: findings.RefreshToken, Given: 1, Life: life,
			})
		},
		"nonces that are ignored": func(i int) findings.Call {
			return at(time.Duration(i)*time.Minute, quick, findings.Call{
				Method: "getTimeline", Generation: findings.None, Given: findings.None, Status: 401, Error: "use_dpop_nonce",
			})
		},
		"sessions": func(i int) findings.Call {
			return at(time.Duration(i)*time.Minute, quick, findings.Call{
				Purpose: findings.SignIn, Method: "createSession", Generation: findings.None, Session: fmt.Sprint("s", i),
			})
		},
		"sessions that are dropped": func(i int) findings.Call {
			c := findings.Call{Purpose: findings.SignIn, Method: "createSession", Generation: findings.None, Session: fmt.Sprint("s", i/2)}
			if i%2 == 1 {
				c.Purpose, c.Method, c.Given, c.Status = findings.Refresh, "refreshSession", findings.None, 503
			}
			return at(time.Duration(i)*time.Minute, quick, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 4000, func(n int) func() {
				calls := []findings.Call{}
				for i := range n {
					calls = append(calls, nth(i))
				}
				return func() { findings.Of(calls) }
			})
		})
	}
}
