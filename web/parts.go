package web

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"strings"
)

// field is an input with its label, for the template "field".
type field struct {
	Frame *Frame
	// Name is the field's name and id.
	Name, Type, Value, Autocomplete, InputMode string
	// Label and Hint are ids of messages; Hint may be empty.
	Label, Hint string
	Required    bool
	ReadOnly    bool
	// Code sets the text apart: digits and codes are compared letter by letter.
	Code bool
	// Focus puts the cursor into it, unless there is a problem to read first.
	Focus bool
	Max   int
}

// Problem returns what is wrong with the field, or nil.
func (f *field) Problem() *Problem { return f.Frame.Problem(f.Name) }

// DescribedBy names the elements that explain the field.
func (f *field) DescribedBy() string {
	var ids []string
	if f.Problem() != nil {
		ids = append(ids, f.Name+"-error")
	}
	if f.Hint != "" {
		ids = append(ids, f.Name+"-hint")
	}
	return strings.Join(ids, " ")
}

// newField makes a field of pairs: {{template "field" (field .Frame "name" "email" …)}}.
func newField(frame *Frame, pairs ...any) (*field, error) {
	f := &field{Frame: frame, Type: "text", Max: 512}
	if len(pairs)%2 != 0 {
		return nil, errPairs
	}
	texts := map[string]*string{
		"name": &f.Name, "type": &f.Type, "value": &f.Value, "autocomplete": &f.Autocomplete,
		"inputmode": &f.InputMode, "label": &f.Label, "hint": &f.Hint,
	}
	flags := map[string]*bool{"required": &f.Required, "readonly": &f.ReadOnly, "code": &f.Code, "focus": &f.Focus}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		if to, ok := texts[name]; ok {
			if *to, ok = pairs[i+1].(string); ok {
				continue
			}
		}
		if to, ok := flags[name]; ok {
			if *to, ok = pairs[i+1].(bool); ok {
				continue
			}
		}
		return nil, fmt.Errorf("field: %q with a %T", name, pairs[i+1])
	}
	return f, nil
}

// pass makes a map of pairs, for templates with several arguments.
func pass(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, errPairs
	}
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, errPairs
		}
		out[name] = pairs[i+1]
	}
	return out, nil
}

// atHandle writes the name of an account: its handle, or its DID.
func atHandle(a any) (template.HTML, error) {
	var account *Account
	switch a := a.(type) {
	case *Account:
		account = a
	case Account:
		account = &a
	default:
		return "", fmt.Errorf("a %T is not an account", a)
	}
	if account.Handle == "" {
		return name(account.DID), nil
	}
	return Host(account.Handle).html(), nil
}

// kindOf returns a tone, Info by default.
func kindOf(k Kind) Kind {
	if k == "" {
		return Info
	}
	return k
}

// png returns an image as a URL.
func png(image []byte) template.URL {
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(image)) //nolint:gosec // base64
}

// otpauth returns the link that opens an authenticator app.
func otpauth(link string) (template.URL, error) {
	u, err := url.Parse(link)
	if err != nil || u.Scheme != "otpauth" {
		return "", fmt.Errorf("%q is not an otpauth link", link)
	}
	return template.URL(u.String()), nil //nolint:gosec // the scheme is checked, and it is our own
}

// textFile returns lines as a file to download.
func textFile(lines []string) template.URL {
	text := base64.StdEncoding.EncodeToString([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return template.URL("data:text/plain;charset=utf-8;base64," + text) //nolint:gosec // base64
}

// groups sets blanks between each four letters.
func groups(secret string) string {
	var b strings.Builder
	for i, r := range secret {
		if i > 0 && i%4 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return b.String()
}
