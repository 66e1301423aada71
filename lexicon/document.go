package lexicon

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Document is a file of the Lexicon language: what it says about data. Prose,
// defaults and known values bind nobody, so they are not read.
type Document struct {
	ID   string                `json:"id"`
	Defs map[string]Definition `json:"defs"`
}

// Definition is a type in a Document. Its fields are those of the Lexicon
// language; which of them a type has, Type says.
type Definition struct {
	Type string `json:"type"`

	// record
	Key    string      `json:"key,omitempty"`
	Record *Definition `json:"record,omitempty"`
	// object
	Required   []string   `json:"required,omitempty"`
	Nullable   []string   `json:"nullable,omitempty"`
	Properties Properties `json:"properties,omitempty"`
	// array
	Items *Definition `json:"items,omitempty"`
	// array, string, bytes
	MinLength *int `json:"minLength,omitempty"`
	MaxLength *int `json:"maxLength,omitempty"`
	// string
	Format       string `json:"format,omitempty"`
	MinGraphemes *int   `json:"minGraphemes,omitempty"`
	MaxGraphemes *int   `json:"maxGraphemes,omitempty"`
	// integer
	Minimum *int64 `json:"minimum,omitempty"`
	Maximum *int64 `json:"maximum,omitempty"`
	// string, integer, boolean
	Enum  []jsontext.Value `json:"enum,omitempty"`
	Const jsontext.Value   `json:"const,omitempty"`
	// blob
	Accept  []string `json:"accept,omitempty"`
	MaxSize *int64   `json:"maxSize,omitempty"`
	// ref, union
	Ref    string   `json:"ref,omitempty"`
	Refs   []string `json:"refs,omitempty"`
	Closed bool     `json:"closed,omitzero"`
}

// Properties are the properties of an object in the order of the document. The
// first fault in this order is the one that a client is told.
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

// MarshalJSONTo writes an object in the order of p.
func (p Properties) MarshalJSONTo(e *jsontext.Encoder) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, one := range p {
		if err := e.WriteToken(jsontext.String(one.Name)); err != nil {
			return err
		}
		if err := json.MarshalEncode(e, one.Definition); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}
