package oauth

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// parameters are those of a request. One that is absent, or empty, is "".
type parameters map[string]string

// readBody reads the parameters of a request from its body, a form or, as some clients send
// it, JSON.
func readBody(w http.ResponseWriter, r *http.Request) (parameters, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" && kind != "application/json" {
		return nil, badRequest("Content-Type must be application/x-www-form-urlencoded or application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, &Error{Status: http.StatusRequestEntityTooLarge, Code: codeInvalidRequest, Description: "The body is larger than 64 KiB"}
	}
	if err != nil {
		return nil, badRequest("The body could not be read")
	}
	if kind == "application/json" {
		return parseJSON(body)
	}
	return parseForm(string(body))
}

// parseForm reads a form. Each parameter may be there once (RFC 6749 section 3.2).
func parseForm(body string) (parameters, error) {
	form, err := url.ParseQuery(body)
	if err != nil {
		return nil, badRequest("The form is malformed")
	}
	p := make(parameters, len(form))
	for name, values := range form {
		if len(values) > 1 {
			return nil, badRequest("%.100s is there twice", name)
		}
		p[name] = values[0]
	}
	return p, p.check()
}

// parseJSON reads an object whose values are strings or numbers. What else an unknown one
// may be does not matter.
func parseJSON(body []byte) (parameters, error) {
	var object map[string]jsontext.Value
	body = bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")) // a byte order mark, as xrpc does
	if err := json.Unmarshal(body, &object); err != nil || object == nil {
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return nil, badRequest("A parameter is there twice")
		}
		return nil, badRequest("The body is not a JSON object")
	}
	p := make(parameters, len(object))
	for name, value := range object {
		switch value.Kind() {
		case '"':
			var text string
			if json.Unmarshal(value, &text) != nil {
				return nil, badRequest("%.100s is malformed", name)
			}
			p[name] = text
		case '0':
			p[name] = value.String()
		case 'n':
		default:
			if known[name] {
				return nil, badRequest("%s must be a string", name)
			}
		}
	}
	return p, p.check()
}

// known are the parameters that must be right. A preference that is not is ignored.
var known = map[string]bool{
	"client_id": true, "client_assertion_type": true, "client_assertion": true, "request": true, "request_uri": true,
	"response_type": true, "redirect_uri": true, "scope": true, "state": true, "code_challenge": true,
	"code_challenge_method": true, "response_mode": true, "prompt": true, "max_age": true, "dpop_jkt": true,
	"grant_type": true, "code": true, "code_verifier": true, "refresh_token": true, "token": true,
}

// check refuses what no parameter may hold: none could be stored and come back as it was.
func (p parameters) check() error {
	for name, value := range p {
		switch {
		case !known[name]:
		case !utf8.ValidString(value):
			return badRequest("%s is not text in UTF-8", name)
		case strings.ContainsRune(value, 0):
			return badRequest("%s has a NUL character, U+0000", name)
		}
	}
	return nil
}
