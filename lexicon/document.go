package lexicon

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Document is what a file of the Lexicon language demands of data. Prose, defaults
// and known values bind nobody, so they are not read.
type Document struct {
	ID   string                `json:"id"`
	Defs map[string]Definition `json:"defs"`
}

// Definition is a type in a Document. Its fields are those of the Lexicon
// language; Type decides which of them it has.
type Definition struct {
	Type string `json:"type"`

	// record
	Key    string      `json:"key"`
	Record *Definition `json:"record"`
	// object
	Required   []string   `json:"required"`
	Nullable   []string   `json:"nullable"`
	Properties Properties `json:"properties"`
	// array
	Items *Definition `json:"items"`
	// array, string, bytes
	MinLength *int `json:"minLength"`
	MaxLength *int `json:"maxLength"`
	// string
	Format       string `json:"format"`
	MinGraphemes *int   `json:"minGraphemes"`
	MaxGraphemes *int   `json:"maxGraphemes"`
	// integer
	Minimum *int64 `json:"minimum"`
	Maximum *int64 `json:"maximum"`
	// string, integer, boolean
	Enum  []JSON `json:"enum"`
	Const JSON   `json:"const"`
	// blob
	Accept  []string `json:"accept"`
	MaxSize *int64   `json:"maxSize"`
	// ref, union
	Ref    string   `json:"ref"`
	Refs   []string `json:"refs"`
	Closed bool     `json:"closed"`
}

// JSON is the text of a value.
type JSON string

// UnmarshalJSON keeps the text.
func (j *JSON) UnmarshalJSON(raw []byte) error {
	*j = JSON(raw)
	return nil
}

// Properties are the properties of an object in the order of the document. A client
// gets the first fault in this order.
type Properties []Property

// Property is a property of an object.
type Property struct {
	Name string
	Definition
}

// ParseDocument reads a document in the Lexicon language.
func ParseDocument(raw []byte) (Document, error) {
	var d Document
	if err := json.Unmarshal(raw, &d); err != nil {
		return Document{}, fmt.Errorf("lexicon document: %w", err)
	}
	return d, nil
}

// UnmarshalJSONFrom reads an object, keeping its order.
func (p *Properties) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return fmt.Errorf("properties are a JSON %s, not an object", d.PeekKind())
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	list := Properties{}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		one := Property{Name: name.String()}
		if err := json.UnmarshalDecode(d, &one.Definition); err != nil {
			return err
		}
		list = append(list, one)
	}
	*p = list
	_, err := d.ReadToken()
	return err
}
