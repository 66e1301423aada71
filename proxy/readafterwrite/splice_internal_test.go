package readafterwrite

import (
	"fmt"
	"strings"
	"testing"
)

// TestListEveryWay takes each choice of up to four parts out of an array and puts each
// choice of new ones in before them, and compares with the list as it must be.
func TestListEveryWay(t *testing.T) {
	for n := range 5 {
		var parts []string
		for i := range n {
			parts = append(parts, fmt.Sprintf("[%d]", i))
		}
		src := " [ " + strings.Join(parts, " , ") + " ] "
		for out := range 1 << n {
			for in := range 1 << (n + 1) {
				d, err := parse([]byte(src))
				if err != nil {
					t.Fatal(err)
				}
				l := listOf(d.root())
				var want []string
				for i := range n + 1 {
					if in&(1<<i) != 0 {
						l.put(i, []byte(`"a"`))
						l.put(i, []byte(`"b"`))
						want = append(want, `"a"`, `"b"`)
					}
					if i == n {
						continue
					}
					if out&(1<<i) == 0 {
						want = append(want, parts[i])
						continue
					}
					l.leaveOut(i)
					for e := range l.parts[i].parts() { // an edit in what is taken out has no effect
						d.edit(e.node().start, e.node().end, []byte("lost"))
					}
				}
				l.plan()
				got := strings.ReplaceAll(string(d.bytes()), " ", "")
				if w := "[" + strings.Join(want, ",") + "]"; got != w {
					t.Fatalf("%s without %b, with %b: %s, want %s", src, out, in, got, w)
				}
			}
		}
	}
}
