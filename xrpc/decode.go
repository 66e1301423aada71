package xrpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// field is one member of an input object, or one query parameter. Its json tag
// names it; "omitzero" marks it optional.
type field struct {
	name     string
	index    int
	required bool
	typ      reflect.Type
	nested   []field // of an object's own members
	element  *field  // of a list
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		name, opts, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f := fieldOf(t.Field(i).Type)
		f.name, f.index, f.required = name, i, !strings.Contains(opts, "omitzero")
		fields = append(fields, f)
	}
	return fields
}

func fieldOf(t reflect.Type) field {
	f := field{typ: t}
	if object := indirect(t); object.Kind() == reflect.Struct {
		f.nested = fieldsOf(object)
	} else if t.Kind() == reflect.Slice && t != rawType {
		element := fieldOf(t.Elem())
		f.element = &element
	}
	return f
}

// rawType is a member that its handler decodes: any value, null too.
var rawType = reflect.TypeFor[jsontext.Value]()

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

type bodyDecode[In any] func(w http.ResponseWriter, r *http.Request, limit int64, in *In) error

func bodyDecoder[In any]() bodyDecode[In] {
	t := reflect.TypeFor[In]()
	if t == noneType {
		return func(w http.ResponseWriter, r *http.Request, limit int64, _ *In) error {
			return checkNoBody(w, r, limit)
		}
	}
	fields := fieldsOf(t)
	return func(w http.ResponseWriter, r *http.Request, limit int64, in *In) error {
		body, err := readJSON(w, r, limit)
		if err != nil {
			return err
		}
		return decodeObject(body, fields, reflect.ValueOf(in).Elem(), "$")
	}
}

// Body reads a JSON body of at most limit bytes as a Procedure does, and returns it
// decoded and as it came.
func Body[In any](w http.ResponseWriter, r *http.Request, limit int64) (in In, body []byte, err error) {
	if body, err = readJSON(w, r, limit); err == nil {
		err = decodeObject(body, fieldsOf(reflect.TypeFor[In]()), reflect.ValueOf(&in).Elem(), "$")
	}
	return in, body, err
}

func readJSON(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := readBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, InvalidRequest("A request body is expected but none was provided")
	}
	return body, checkContentType(r.Header.Get("Content-Type"))
}

func checkContentType(ct string) error {
	if ct == "" {
		return InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	mt, _, err := mime.ParseMediaType(ct)
	if err != nil || mt != "application/json" {
		return InvalidRequest("Wrong request encoding (Content-Type): %s", clip(ct, 128))
	}
	return nil
}

// checkNoBody accepts what clients, proxies and helpers send when they mean "no
// body": nothing, white space, or an empty object, with any Content-Type.
func checkNoBody(w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
		return nil
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil
	}
	if v := jsontext.Value(body); v.IsValid() && v.Kind() == '{' && len(bytes.TrimSpace(body[1:len(body)-1])) == 0 {
		return nil
	}
	return InvalidRequest("A request body was provided when none was expected")
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, PayloadTooLarge()
	}
	if err := checkEncoding(r); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, PayloadTooLarge()
	}
	if err != nil {
		return nil, UnreadableBody(err)
	}
	return bytes.TrimPrefix(body, byteOrderMark), nil
}

// byteOrderMark begins what some editors and HTTP helpers write. A parser may ignore
// it (RFC 8259, 8.1).
var byteOrderMark = []byte("\xEF\xBB\xBF")

// checkEncoding refuses a body that would have to be decoded first.
func checkEncoding(r *http.Request) error {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return &Error{Status: http.StatusUnsupportedMediaType, Name: NameInvalidRequest, Message: "unsupported content-encoding"}
	}
	return nil
}

// decodeObject decodes one JSON object, which stands at path, into the fields of dst,
// and objects inside it in the same way. It refuses duplicate names, invalid UTF-8,
// trailing data, null and nesting beyond the decoder's limit, and ignores members that
// the schema does not have.
func decodeObject(body []byte, fields []field, dst reflect.Value, path string) error {
	dec := jsontext.NewDecoder(bytes.NewReader(body))
	tok, err := dec.ReadToken()
	if err != nil {
		return malformed(err)
	}
	if tok.Kind() != '{' {
		return WrongType("object", bytes.TrimSpace(body), path)
	}
	var seen uint64
	for dec.PeekKind() != '}' {
		key, err := dec.ReadToken()
		if err != nil {
			return malformed(err)
		}
		name := key.String()
		raw, err := dec.ReadValue()
		if err != nil {
			return malformed(err)
		}
		for i, f := range fields {
			if f.name != name {
				continue
			}
			seen |= 1 << i
			if err := decodeField(raw, f, dst.Field(f.index), path+"."+f.name); err != nil {
				return err
			}
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformed(err)
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return InvalidRequest("Malformed JSON: trailing data after the value")
	}
	for i, f := range fields {
		if f.required && seen&(1<<i) == 0 {
			return InvalidRequest("Missing required key %q at %s", f.name, path)
		}
	}
	return nil
}

// Decoder returns a function that reads the JSON object at path of the request's body
// as a Procedure reads its input. It is for the members of a union, whose type the
// handler must look up first.
func Decoder[T any]() func(raw jsontext.Value, path string) (T, error) {
	fields := fieldsOf(reflect.TypeFor[T]())
	return func(raw jsontext.Value, path string) (v T, err error) {
		err = decodeObject(raw, fields, reflect.ValueOf(&v).Elem(), path)
		return v, err
	}
}

func decodeField(raw jsontext.Value, f field, dst reflect.Value, path string) error {
	if f.nested != nil {
		if dst.Kind() == reflect.Pointer {
			dst.Set(reflect.New(dst.Type().Elem()))
			dst = dst.Elem()
		}
		return decodeObject(raw, f.nested, dst, path)
	}
	if f.element != nil && raw.Kind() == '[' {
		return decodeList(raw, *f.element, dst, path)
	}
	if f.typ == rawType {
		dst.SetBytes(bytes.Clone(raw))
		return nil
	}
	err := json.Unmarshal(raw, dst.Addr().Interface())
	// A null decodes into anything; the Lexicon has no nullable member here.
	if err == nil && raw.Kind() != 'n' {
		return nil
	}
	if want := wantName(f.typ); want != kindName(raw) {
		return WrongType(want, raw, path)
	}
	return InvalidRequest("Invalid value at %s", path) // out of range, say
}

func decodeList(raw jsontext.Value, element field, dst reflect.Value, path string) error {
	var values []jsontext.Value
	if err := json.Unmarshal(raw, &values); err != nil {
		return malformed(err)
	}
	dst.Set(reflect.MakeSlice(dst.Type(), len(values), len(values)))
	for i, value := range values {
		if err := decodeField(value, element, dst.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func wantName(t reflect.Type) string {
	switch t.Kind() { //nolint:exhaustive // the kinds that Lexicon types decode into
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64:
		return "integer"
	case reflect.Slice:
		return "array"
	case reflect.Pointer:
		return wantName(t.Elem())
	default:
		return "object"
	}
}

func kindName(v jsontext.Value) string {
	switch v.Kind() {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		if bytes.ContainsAny(v, ".eE") {
			return "float"
		}
		return "integer"
	case '[':
		return "array"
	case '{':
		return "object"
	default:
		return "unknown"
	}
}

func malformed(err error) error {
	reason := "not a JSON value"
	if serr, ok := errors.AsType[*jsontext.SyntacticError](err); ok && serr.Err != nil {
		reason = serr.Err.Error()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		reason = "unexpected end of input"
	}
	// No cause: the log must not repeat text that may be part of a password.
	return InvalidRequest("Malformed JSON: %s", clip(reason, 200))
}

type paramsDecode[P any] func(rawQuery string, dst *P) error

// paramsDecoder reads a query string into strings, integers, booleans and
// string lists. Unknown parameters are ignored. An optional one that is empty counts
// as not given, unless it is a list.
func paramsDecoder[P any]() paramsDecode[P] {
	t := reflect.TypeFor[P]()
	if t == noneType {
		return func(string, *P) error { return nil }
	}
	fields := fieldsOf(t)
	return func(rawQuery string, dst *P) error {
		values, err := url.ParseQuery(rawQuery)
		if err != nil {
			return InvalidRequest("Malformed query string")
		}
		v := reflect.ValueOf(dst).Elem()
		for _, f := range fields {
			got := values[f.name]
			if !f.required && len(got) == 1 && got[0] == "" && f.element == nil {
				continue // "limit=" is what some clients write for no limit
			}
			if len(got) == 0 {
				if f.required {
					return InvalidRequest("Missing required key %q at $", f.name)
				}
				continue
			}
			if slices.ContainsFunc(got, func(s string) bool { return !utf8.ValidString(s) }) {
				return InvalidRequest("Invalid UTF-8 at $.%s", f.name)
			}
			if err := setParam(v.Field(f.index), got); err != nil {
				return InvalidRequest("%s at $.%s", err, f.name)
			}
		}
		return nil
	}
}

func setParam(dst reflect.Value, got []string) error {
	if dst.Kind() != reflect.Slice && len(got) > 1 {
		return fmt.Errorf("Expected %s value type (got array)", wantName(dst.Type())) //nolint:staticcheck // sent as it stands
	}
	if dst.Kind() == reflect.Pointer { // distinguishes an absent parameter from a zero
		dst.Set(reflect.New(dst.Type().Elem()))
		dst = dst.Elem()
	}
	switch dst.Kind() { //nolint:exhaustive // the kinds that Lexicon parameters decode into
	case reflect.Slice:
		dst.Set(reflect.ValueOf(got).Convert(dst.Type()))
		return nil
	case reflect.String:
		dst.SetString(got[0])
		return nil
	case reflect.Bool:
		if got[0] != "true" && got[0] != "false" {
			return fmt.Errorf("Expected boolean value type (got %q)", clip(got[0], 64)) //nolint:staticcheck // sent as it stands
		}
		dst.SetBool(got[0] == "true")
		return nil
	default:
		n, err := strconv.ParseInt(got[0], 10, 64)
		if err != nil || got[0][0] == '+' {
			return fmt.Errorf("Expected integer value type (got %q)", clip(got[0], 64)) //nolint:staticcheck // sent as it stands
		}
		dst.SetInt(n)
		return nil
	}
}
