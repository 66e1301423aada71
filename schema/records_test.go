package schema_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/lexicon"
)

const (
	writer = syntax.DID("did:plc:writerwriterwriterwriter")
	thing  = syntax.NSID("a.b.thing")
)

// recordSchema is the schema of records with those properties.
func recordSchema(nsid, properties string, defs ...string) string {
	return fmt.Sprintf(`{"lexicon":1,"id":%q,"defs":{%s"main":{"type":"record","key":"tid","record":{"type":"object","required":["text"],"properties":
		{"text":{"type":"string","maxLength":5},"more":{"type":"object","properties":%s}}}}}}`, nsid, strings.Join(append(defs, ""), ","), properties)
}

// at waits until the schema of a collection is at hand.
func (w *world) at(collection syntax.NSID) *lexicon.Catalogue {
	w.t.Helper()
	var c *lexicon.Catalogue
	eventually(w.t, "the schema of "+collection.String()+" is at hand", func() bool {
		c = w.Records(writer, collection)
		return c != nil
	})
	return c
}

// checks checks what a schema says of a record.
func checks(t *testing.T, c *lexicon.Catalogue, collection syntax.NSID, record map[string]any, want string) {
	t.Helper()
	record["$type"] = collection.String()
	known, err := c.ValidateRecord(collection.String(), record)
	if got := fmt.Sprint(err); !known || !strings.Contains(got, want) {
		t.Errorf("%v: known %t, %s, want %s", record, known, got, want)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change(func() { w.txt["_lexicon.d.c"] = []string{"did=" + authorDID.String()} })
	w.publish("a.b.thing", recordSchema("a.b.thing", `{"subject":{"type":"ref","ref":"com.atproto.repo.strongRef"},
		"part":{"type":"ref","ref":"c.d.defs#part"},"own":{"type":"ref","ref":"#own"}}`, `"own":{"type":"object","required":["x"],"properties":{"x":{"type":"integer"}}}`,
		// What the record does not refer to need not be there, nor make sense.
		`"view":{"type":"object","properties":{"x":{"type":"ref","ref":"not.there.defs#view"}}}`, `"get":{"type":"query"}`))
	w.publish("c.d.defs", `{"lexicon":1,"id":"c.d.defs","defs":{"part":{"type":"object","required":["n"],"properties":{"n":{"type":"integer"},
		"again":{"type":"ref","ref":"#part"}}}}}`)
	silent := make(chan struct{})
	w.change(func() { w.silent = silent })
	if c := w.Records(writer, thing); c != nil {
		t.Error("a schema that nobody has asked for is at hand")
	}
	eventually(t, "the host is asked", func() bool { return w.asked() == 1 })
	if c := w.Records(writer, thing); c != nil {
		t.Error("a schema is at hand that the host has not sent yet")
	}
	close(silent)
	c := w.at(thing)
	checks(t, c, thing, map[string]any{"text": "x"}, "<nil>")
	checks(t, c, thing, map[string]any{}, `Missing required key "text"`)
	checks(t, c, thing, map[string]any{"text": "too long"}, "string too big")
	more := func(v map[string]any) map[string]any { return map[string]any{"text": "x", "more": v} }
	checks(t, c, thing, more(map[string]any{"subject": map[string]any{"uri": "x"}}), "at $.record.more.subject")
	checks(t, c, thing, more(map[string]any{"part": map[string]any{"n": int64(1), "again": map[string]any{}}}), "at $.record.more.part.again")
	checks(t, c, thing, more(map[string]any{"own": map[string]any{"x": "y"}}), "at $.record.more.own.x")
	if c.Key(thing.String()) != lexicon.KeyTID {
		t.Errorf("key %s", c.Key(thing.String()))
	}
	if w.asked() != 2 {
		t.Errorf("the host was asked %d times", w.asked())
	}
	if l, err := w.Store.Lexicon(t.Context(), thing); err == nil {
		t.Errorf("anybody who writes could fill the database: %+v", l)
	}
}

// TestRecordsChange: a schema that changed is found without anybody waiting, sooner if
// it has refused a record.
func TestRecordsChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.thing", recordSchema("a.b.thing", `{}`))
	record := map[string]any{"text": "too long"}
	checks(t, w.at(thing), thing, record, "string too big")
	w.publish("a.b.thing", strings.ReplaceAll(recordSchema("a.b.thing", `{}`), `"maxLength":5`, `"maxLength":50`))
	w.Doubt(writer, thing)
	w.Clock.Advance(59 * time.Second)
	w.Doubt(writer, thing)
	if w.asked() != 1 {
		t.Errorf("the host was asked %d times within the minute", w.asked())
	}
	accepted := func() bool {
		_, err := w.Records(writer, thing).ValidateRecord(thing.String(), record)
		return err == nil
	}
	w.Clock.Advance(time.Second)
	eventually(t, "the new schema is at hand", func() bool {
		w.Doubt(writer, thing) // the build before may not have quite ended
		return accepted()
	})

	// The host is gone: the last known one goes on.
	w.change(func() { w.answer = nil; clear(w.txt) })
	w.Clock.Advance(24 * time.Hour)
	if !accepted() {
		t.Error("a schema that was known is gone")
	}
	eventually(t, "it is looked for", func() bool {
		names, _, _ := w.seen()
		return len(names) > 2
	}) // at first, in doubt, and now
	for range 100 {
		if !accepted() {
			t.Fatal("a schema that was known is gone")
		}
	}
}

// TestRecordsMissing: of these, nothing is known, and no write makes the server ask
// again at once.
func TestRecordsMissing(t *testing.T) {
	t.Parallel()
	wide := `{"p0":{"type":"string"}`
	for i := range 1001 {
		wide += fmt.Sprintf(`,"p%d":{"type":"string"}`, i+1)
	}
	parts := ""
	for i := range 40 {
		parts += fmt.Sprintf(`"p%d":{"type":"ref","ref":"a.b.part%c%c"},`, i, 'a'+i/26, 'a'+i%26)
	}
	for name, document := range map[string]string{
		"not there":             "",
		"a permission set":      set("a.b.thing", "a.b.c"),
		"a query":               `{"lexicon":1,"id":"a.b.thing","defs":{"main":{"type":"query"}}}`,
		"no main definition":    `{"lexicon":1,"id":"a.b.thing","defs":{"other":{"type":"object"}}}`,
		"a part is not there":   recordSchema("a.b.thing", `{"x":{"type":"ref","ref":"a.b.gone"}}`),
		"a definition is not":   recordSchema("a.b.thing", `{"x":{"type":"ref","ref":"#gone"}}`),
		"a part is not an NSID": recordSchema("a.b.thing", `{"x":{"type":"ref","ref":"gone"}}`),
		"no known type":         recordSchema("a.b.thing", `{"x":{"type":"map"}}`),
		"too wide":              recordSchema("a.b.thing", wide+`}`),
		"too many parts":        recordSchema("a.b.thing", `{`+parts+`"z":{"type":"string"}}`),
		"a malformed document":  `{"lexicon":1,"id":"a.b.thing","defs":{"main":{"type":"record","record":7}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if document != "" {
				w.publish("a.b.thing", document)
			}
			for i := range 40 {
				part := fmt.Sprintf("a.b.part%c%c", 'a'+i/26, 'a'+i%26)
				w.publish(part, fmt.Sprintf(`{"lexicon":1,"id":%q,"defs":{"main":{"type":"object","properties":{}}}}`, part))
			}
			w.Records(writer, thing)
			eventually(t, "the host is asked", func() bool { return w.asked() > 0 })
			w.Service.Close()
			asked := w.asked()
			if c := w.Records(writer, thing); c != nil || asked > 31 {
				t.Errorf("schema %v; the host was asked %d times", c, asked)
			}
		})
	}
}

// TestRecordsAreLimited: an account that writes into ever new collections makes the
// server ask a bounded number of times.
func TestRecordsAreLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Limits = w.limited()
	w.start()
	for i := range 300 {
		nsid := syntax.NSID(fmt.Sprintf("a.b.thing%c%c", 'a'+i/26, 'a'+i%26))
		w.publish(nsid.String(), recordSchema(nsid.String(), `{}`))
	}
	for i := range 300 {
		w.Records(writer, syntax.NSID(fmt.Sprintf("a.b.thing%c%c", 'a'+i/26, 'a'+i%26)))
		time.Sleep(time.Millisecond)
	}
	w.Service.Close()
	if w.asked() > 60 || w.asked() == 0 {
		t.Errorf("the host was asked %d times", w.asked())
	}
}
