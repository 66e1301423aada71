package findings

import (
	"fmt"
	"time"
)

// Limits are the thresholds, as the rows of docs/clients.md that name them.
func Limits() []string {
	row := func(kind Kind, format string, limits ...any) string {
		for i, l := range limits {
			if d, ok := l.(time.Duration); ok {
				limits[i] = fmt.Sprintf("%d s", d/time.Second)
			}
		}
		return fmt.Sprintf("| `"+string(kind)+"` | "+format+" |", limits...)
	}
	return []string{
		row("all", "an answer counts as known to the client %s after it was sent", settle),
		row(AtOnce, "refreshes that begin less than %s apart", together),
		row(Early, "before 1/%d of the life has passed, and more than %s before it ends", earlyPart, soon),
		row(Unused, "the newer token came within %s after it was asked for: for a slower one the client may not have waited", slow),
		row(Dropped, "after a refresh that failed, if nothing came in between; less than %s after it, also with a sign-out or another tab's call in between; less than %s after another call that failed", byItself, byItself),
		row(Kept, "more than %d calls, or more than %d refreshes", goOn, goOn),
		row(Impatient, "before %d/10 of the time is over", patient),
		row(RepeatedPost, "less than %s after the first answer; ahead of it, if the client gave the first up, or %s or more after that began", again, slow),
		row(PilingUp, "%d sessions or more, each left more than %s before its refresh token expires", piled, soon),
		row(NonceIgnored, "not again within %s", again),
	}
}
