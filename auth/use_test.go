package auth_test

import (
	"os"
	"strings"
	"testing"

	"nestbox/auth"
	"nestbox/firehose/event"
)

// TestMay compares the table of docs/sessions.md with May: each cell is what the
// status allows.
func TestMay(t *testing.T) {
	uses := map[string]auth.Use{
		"Look": auth.UseLook, "Manage": auth.UseManage, "Activate": auth.UseActivate, "Bring": auth.UseBring,
		"Write": auth.UseWrite, "Invite": auth.UseInvite, "Delete": auth.UseDelete, "Leave": auth.UseLeave,
	}
	text, err := os.ReadFile("../docs/sessions.md")
	if err != nil {
		t.Fatal(err)
	}
	statuses := []string{event.StatusDeactivated, event.StatusSuspended, event.StatusTakenDown}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		u, ok := uses[strings.Trim(cells[0], " *")]
		if !ok || len(cells) != 5 {
			continue
		}
		delete(uses, strings.Trim(cells[0], " *"))
		if err := auth.May(u, "", auth.ScopeAccess); err != nil {
			t.Errorf("%s of an active account: %v", cells[0], err)
		}
		for i, status := range statuses {
			for _, scope := range []auth.Scope{auth.ScopeAccess, auth.ScopeAppPass, auth.ScopeAppPassPrivileged, auth.ScopeTakenDown} {
				want := cellFault(t, strings.TrimSpace(cells[2+i]), scope)
				if got := faultOf(t, auth.May(u, status, scope)); got != want {
					t.Errorf("%s of an account that is %s, scope %s: %+v, the table says %+v", cells[0], status, scope, got, want)
				}
			}
		}
	}
	if len(uses) > 0 {
		t.Errorf("docs/sessions.md has no row for %v", uses)
	}
}

// cellFault returns what a cell of the table means.
func cellFault(t *testing.T, cell string, scope auth.Scope) fault {
	t.Helper()
	switch cell {
	case "yes":
		return fault{}
	case "`AccountTakedown`, suspended":
		return fault{401, "AccountTakedown", "Account has been suspended"}
	case "`AccountTakedown`":
		return fault{401, "AccountTakedown", "Account has been taken down"}
	case "with `allowTakendown`":
		if scope == auth.ScopeTakenDown {
			return fault{}
		}
		return fault{401, "AccountTakedown", "Account has been taken down"}
	case "`AccountDeactivated`":
		return fault{401, "AccountDeactivated", "Account is deactivated"}
	case "400 `NotFound`":
		return fault{400, "NotFound", "Account not found"}
	default:
		t.Fatalf("the cell %q means nothing", cell)
		return fault{}
	}
}
