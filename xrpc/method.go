package xrpc

import (
	"context"
	"net/http"
	"reflect"

	"nestbox/request"
)

// None is the input or output of a method that has none.
type None struct{}

// Auth authenticates the caller. C is the kind of caller; its type is the permission
// that a handler demands.
type Auth[C any] func(context.Context, *http.Request) (C, error)

// Method is one endpoint: the HTTP verb that it answers and how.
type Method struct {
	verb    string // GET for queries, POST for procedures
	maxBody int64  // of a JSON body; 0: the server's
	// apart, if set, is called in place of Server.Admit.
	apart func(context.Context, *http.Request) error
	serve func(maxBody int64, w *request.Writer, r *http.Request) error
}

// WithMaxBody returns the method with a limit of its own for a JSON body, in
// bytes.
func (m Method) WithMaxBody(n int64) Method {
	m.maxBody = n
	return m
}

// CountedApart returns the method with a limit of its own in place of the limit over
// everything. It is checked as early: before the caller is authenticated or a body read.
func (m Method) CountedApart(admit func(context.Context, *http.Request) error) Method {
	m.apart = admit
	return m
}

// Procedure is a POST endpoint. In is decoded from a JSON body; None means that the
// body must be empty. Out is encoded as JSON; None means a 200 without a body.
func Procedure[C, In, Out any](auth Auth[C], handle func(context.Context, C, In) (Out, error)) Method {
	decode := bodyDecoder[In]()
	return Method{verb: http.MethodPost, serve: func(maxBody int64, w *request.Writer, r *http.Request) error {
		ctx := r.Context()
		caller, err := auth(ctx, r)
		if err != nil {
			return err
		}
		var in In
		if err := decode(w, r, maxBody, &in); err != nil {
			return err
		}
		out, err := handle(ctx, caller, in)
		if err != nil {
			return err
		}
		return writeOutput(w, r, out)
	}}
}

// Query is a GET endpoint (HEAD gets the same answer without the body). Params is a
// struct whose fields carry the parameters' names in json tags.
func Query[C, Params, Out any](auth Auth[C], handle func(context.Context, C, Params) (Out, error)) Method {
	decode := paramsDecoder[Params]()
	return Method{verb: http.MethodGet, serve: func(_ int64, w *request.Writer, r *http.Request) error {
		ctx := r.Context()
		caller, params, err := admit(r, auth, decode)
		if err != nil {
			return err
		}
		out, err := handle(ctx, caller, params)
		if err != nil {
			return err
		}
		return writeOutput(w, r, out)
	}}
}

// admit decodes a query string and authenticates the caller. Malformed parameters are
// reported before authentication.
func admit[C, Params any](r *http.Request, auth Auth[C], decode paramsDecode[Params]) (caller C, params Params, err error) {
	if err = decode(r.URL.RawQuery, &params); err == nil {
		caller, err = auth(r.Context(), r)
	}
	return caller, params, err
}

var noneType = reflect.TypeFor[None]()
