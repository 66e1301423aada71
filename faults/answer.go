package faults

import (
	"bufio"
	"bytes"
	"fmt"
	"html"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// answer is one that is kept until it is known what the client gets of it.
type answer struct {
	to     http.ResponseWriter
	header http.Header
	status int
	body   bytes.Buffer
	// asked: the answer asks for another nonce.
	asked bool
}

func keep(w http.ResponseWriter) *answer {
	return &answer{to: w, header: w.Header().Clone(), status: http.StatusOK}
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

func (a *answer) Write(part []byte) (int, error) { return a.body.Write(part) }

// FlushError keeps http.ResponseController from sending what is kept.
func (a *answer) FlushError() error { return nil }

// Hijack implements http.Hijacker: no stream is kept.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// Unwrap lets http.ResponseController reach the connection's deadlines.
func (a *answer) Unwrap() http.ResponseWriter { return a.to }

// send gives the client the answer, or with half only the first part of its body. The caller
// then ends the connection.
func (a *answer) send(half bool) {
	header := a.to.Header()
	clear(header)
	maps.Copy(header, a.header)
	body := a.body.Bytes()
	bodiless := a.status == http.StatusNoContent || a.status == http.StatusNotModified
	if !bodiless && (len(body) > 0 || header.Get("Content-Length") == "") { // a HEAD has the length, and no body
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	a.to.WriteHeader(a.status)
	if half {
		body = body[:len(body)/2]
	}
	_, _ = a.to.Write(body) // a client that has gone needs no answer
	if half {
		_ = http.NewResponseController(a.to).Flush()
	}
}

// names are the names of errors by status, as servers give them.
func names(status int) (xrpc, oauth string) {
	switch {
	case status == http.StatusTooManyRequests:
		return "RateLimitExceeded", "temporarily_unavailable"
	case status == http.StatusServiceUnavailable:
		return "ServiceUnavailable", "temporarily_unavailable"
	case status == http.StatusBadGateway:
		return "UpstreamFailure", "server_error"
	case status == http.StatusGatewayTimeout:
		return "UpstreamTimeout", "server_error"
	case status >= http.StatusInternalServerError:
		return "InternalServerError", "server_error"
	case status == http.StatusUnauthorized:
		return "AuthenticationRequired", "invalid_client"
	}
	return "InvalidRequest", "invalid_request"
}

// refuse makes the answer an error, in the form of the endpoint.
func (a *answer) refuse(c *call, status int, name, message string) {
	a.status = status
	a.body.Reset()
	a.header.Set("Content-Type", "application/json")
	a.header.Del("Content-Length")
	a.header.Set("Access-Control-Allow-Origin", "*")
	a.header.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate, Retry-After")
	a.header.Set("Cache-Control", "no-store")
	if c.oauth {
		fmt.Fprintf(&a.body, `{"error":%q,"error_description":%q}`, name, message)
		return
	}
	fmt.Fprintf(&a.body, `{"error":%q,"message":%q}`, name, message)
}

// fail makes the answer that of fault f: an error of the server.
func (a *answer) fail(c *call, f Fault) {
	name, oauthName := names(f.Status)
	if c.oauth {
		name = oauthName
	}
	a.refuse(c, f.Status, name, "A fault that nestbox dev faults makes on purpose")
	if f.RetryAfter > 0 {
		const second = Duration(1e9)
		a.header.Set("Retry-After", strconv.FormatInt(int64((f.RetryAfter+second-1)/second), 10))
	}
}

// page makes the answer a proxy's page, which knows nothing of the protocol: it lets no script of
// another site read it.
func (a *answer) page(f Fault) {
	if a.status = f.Status; a.status == 0 {
		a.status = http.StatusBadGateway
	}
	clear(a.header)
	a.header.Set("Content-Type", "text/html")
	title := html.EscapeString(strconv.Itoa(a.status) + " " + http.StatusText(a.status))
	a.body.Reset()
	a.body.WriteString(strings.ReplaceAll(proxyPage, "TITLE", title))
}

const proxyPage = `<html>
<head><title>TITLE</title></head>
<body>
<center><h1>TITLE</h1></center>
<hr><center>a proxy of nestbox dev faults</center>
</body>
</html>
`
