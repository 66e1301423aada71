package lexicon

import (
	"slices"
	"strings"
	"sync"
)

// Catalogue is a set of documents that refer to each other.
type Catalogue struct {
	records map[string]record
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

// Knows says whether the catalogue has the schema of a collection's records.
func (c *Catalogue) Knows(collection string) bool {
	_, ok := c.records[collection]
	return ok
}

// ValidateRecord says whether the catalogue knows the collection, and then
// whether v is a record of it: an *InvalidError where it is not. Properties that
// a schema does not name may be anything, and so may what an open union does not
// name.
func (c *Catalogue) ValidateRecord(collection string, v map[string]any) (known bool, err error) {
	r, ok := c.records[collection]
	if !ok {
		return false, nil
	}
	if t, ok := v[keyType].(string); !ok || t != collection {
		return true, &InvalidError{path: []string{keyType}, fault: "must be " + collection}
	}
	if fault := r.schema.check(v, 1); fault != nil {
		return true, fault
	}
	return true, nil
}

// InvalidError: the record is not what its schema says.
type InvalidError struct {
	path  []string // from the inside out
	fault string
}

func invalid(fault string) *InvalidError { return &InvalidError{fault: fault} }

// in returns e as seen from outside of the value where it was found.
func (e *InvalidError) in(name string) *InvalidError {
	e.path = append(e.path, name)
	return e
}

// Path names the value that is at fault: "Record/embed/images/0/alt".
func (e *InvalidError) Path() string {
	var b strings.Builder
	b.WriteString("Record")
	for _, part := range slices.Backward(e.path) {
		b.WriteByte('/')
		b.WriteString(part)
	}
	return b.String()
}

func (e *InvalidError) Error() string { return e.Path() + " " + e.fault }
