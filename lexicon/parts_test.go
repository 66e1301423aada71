package lexicon_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"nestbox/lexicon"
)

// assemble puts the schema of a.b.thing together from documents by NSID.
func assemble(documents map[string]string) (c *lexicon.Catalogue, asked []string, err error) {
	parts := lexicon.NewParts(lexicon.Known(), "a.b.thing")
	for {
		missing := parts.Missing()
		if missing == "" {
			c, err = parts.Catalogue()
			return c, asked, err
		}
		asked = append(asked, missing)
		if _, ok := documents[missing]; !ok {
			return nil, asked, fmt.Errorf("no %s", missing)
		}
		if err := parts.Add([]byte(documents[missing])); err != nil {
			return nil, asked, err
		}
	}
}

func thing(properties string) string {
	return `{"lexicon":1,"id":"a.b.thing","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":` + properties + `}}}}`
}

// TestParts: only what the record refers to is asked for, each document once, and the
// names of this program's own cannot be taken.
func TestParts(t *testing.T) {
	c, asked, err := assemble(map[string]string{
		"a.b.thing": thing(`{"ref":{"type":"ref","ref":"com.atproto.repo.strongRef"},
			"union":{"type":"union","refs":["x.y.one","x.y.two#part","app.bsky.embed.images"],"closed":true},
			"list":{"type":"array","items":{"type":"ref","ref":"x.y.one#main"}}}`),
		"x.y.one": `{"lexicon":1,"id":"x.y.one","defs":{"main":{"type":"object","required":["n"],"properties":{"n":{"type":"integer"}}},
			"view":{"type":"object","properties":{"v":{"type":"ref","ref":"x.y.gone"}}}}}`,
		"x.y.two": `{"lexicon":1,"id":"x.y.two","defs":{"part":{"type":"object","properties":{"two":{"type":"ref","ref":"x.y.one"},"self":{"type":"ref","ref":"#part"}}}}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 {
		t.Errorf("asked for %q", asked)
	}
	for record, want := range map[string]string{
		`{}`:                              "<nil>",
		`{"ref":{"uri":"x"}}`:             "at $.record.ref",
		`{"union":{"$type":"x.y.one"}}`:   "at $.record.union",
		`{"union":{"$type":"x.y.three"}}`: "at $.record.union.$type",
		`{"union":{"$type":"x.y.two#part","self":{"self":{"two":{}}}}}`: "at $.record.union.self.self.two",
		`{"union":{"$type":"app.bsky.embed.images"}}`:                   `key "images" at $.record.union`,
		`{"list":[{"n":1},{}]}`:                                         "at $.record.list[1]",
	} {
		v := value(t, record)
		v["$type"] = "a.b.thing"
		if known, err := c.ValidateRecord("a.b.thing", v); !known || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v, want %s", record, err, want)
		}
	}
	if c.Knows("app.bsky.feed.post") || lexicon.Known().Knows("a.b.thing") {
		t.Error("the catalogues have run into each other")
	}
}

func TestPartsRefuses(t *testing.T) {
	many := `{"p":{"type":"string"}`
	for i := range 1000 {
		many += fmt.Sprintf(`,"p%d":{"type":"string"}`, i)
	}
	for name, document := range map[string]string{
		"another document":    `{"lexicon":1,"id":"a.b.other","defs":{"main":{"type":"object"}}}`,
		"a loop of names":     `{"lexicon":1,"id":"a.b.thing","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":{"x":{"type":"ref","ref":"#x"}}}},"x":{"type":"ref","ref":"#y"},"y":{"type":"ref","ref":"#x"}}}`,
		"too many properties": thing(many + `}`),
		"too many values":     thing(`{"x":{"type":"string","enum":["` + strings.Repeat(`","`, 1001) + `"]}}`),
		"too many required":   thing(`{"x":{"type":"object","required":["` + strings.Repeat(`","`, 1001) + `"]}}`),
		"a record as a part":  thing(`{"x":{"type":"ref","ref":"a.b.thing"}}`),
	} {
		if c, _, err := assemble(map[string]string{"a.b.thing": document}); err == nil {
			t.Errorf("%s: %v", name, c)
		}
	}
}

// TestAffordable: no schema and record together take long, however they are made.
func TestAffordable(t *testing.T) {
	inner := `{"p":{"type":"string"}`
	for i := range 999 {
		inner += fmt.Sprintf(`,"p%d":{"type":"string"}`, i)
	}
	c, _, err := assemble(map[string]string{"a.b.thing": thing(`{"list":{"type":"array","items":{"type":"object","properties":` + inner + `}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]bool{10: true, 1900: true, 100_000: false} {
		record := map[string]any{"$type": "a.b.thing", "list": func() (list []any) {
			for range n {
				list = append(list, map[string]any{})
			}
			return list
		}()}
		if got := c.Affordable(record); got != want {
			t.Errorf("%d elements are affordable: %t, want %t", n, got, want)
			continue
		}
		if want {
			began := time.Now()
			if _, err := c.ValidateRecord("a.b.thing", record); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%d elements took %s", n, took)
			}
		}
	}
	if !lexicon.Known().Affordable(map[string]any{}) {
		t.Error("this program's own schemas are not affordable")
	}
}
