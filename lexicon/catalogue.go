package lexicon

import "sync"

// Catalogue is a set of documents that refer to each other.
type Catalogue struct {
	records map[string]record
	named   map[string]*ref // data by its full name, "#main" left out
	width   int             // how long a check of one value may take: see Affordable
}

type record struct {
	key    KeyType
	schema *object
}

// Known returns the catalogue of this program's records.
var Known = sync.OnceValue(func() *Catalogue {
	c, err := New(documents()...)
	if err != nil {
		panic(err) // a test builds it
	}
	return c
})

// Knows reports whether the catalogue has the schema of a collection's records.
func (c *Catalogue) Knows(collection string) bool {
	_, ok := c.records[collection]
	return ok
}

// ValidateRecord reports whether the catalogue knows the collection, and returns an
// *InvalidError if it does and v is not a record of it. Properties that a schema does
// not name may be anything, and so may what an open union does not name.
func (c *Catalogue) ValidateRecord(collection string, v map[string]any) (known bool, err error) {
	r, ok := c.records[collection]
	if !ok {
		return false, nil
	}
	if fault := r.schema.check(v, 1); fault != nil {
		return true, fault
	}
	if t := v[keyType]; t != collection {
		return true, wrongValue(t, collection).in(keyType)
	}
	return true, nil
}

// ValidateObject reports whether the catalogue knows an object by that full name,
// such as com.example.defs#view, and returns an *InvalidError if it does and v is not
// one.
func (c *Catalogue) ValidateObject(name string, v any) (known bool, err error) {
	r, ok := c.named[name]
	if !ok {
		return false, nil
	}
	o, ok := r.schema.(*object)
	if !ok {
		return false, nil
	}
	if fault := o.check(v, 1); fault != nil {
		return true, fault
	}
	return true, nil
}
