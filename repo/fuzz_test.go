package repo_test

import (
	"testing"

	"nestbox/repo"
)

// FuzzImport: no file makes an import do harm: either the repository is unchanged, or
// it can be exported, its records make its tree, and it can be imported again without
// a change.
func FuzzImport(f *testing.F) {
	w := newWorld(f)
	alice := newMover(f, w)
	f.Add(alice.file(f, posts(3)).bytes())
	f.Add(alice.export())
	for _, c := range hostile(f, alice) {
		if len(c.file) < 10_000 {
			f.Add(c.file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		w.t = t
		before := alice.head()
		done, err := alice.imports(file)
		after := alice.head()
		if err != nil {
			if after.CID != before.CID {
				t.Fatalf("%v, and the repository went from %s to %s", err, before.CID, after.CID)
			}
			return
		}
		if after.CID != done.CID || after.Rev < before.Rev {
			t.Fatalf("imported %+v, the head is %+v after %+v", done, after, before)
		}
		if int64(len(alice.records())) != after.Records {
			t.Fatalf("%+v", after)
		}
		alice.checkExport()
		if again := alice.mustImport(alice.export()); again != (repo.Imported{CID: after.CID, Rev: after.Rev, Records: after.Records, Kept: true}) {
			t.Fatalf("again: %+v after %+v", again, done)
		}
	})
}
