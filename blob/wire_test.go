package blob_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"nestbox/internal/durable"
	"nestbox/internal/pdstest"
)

// host is a whole server with one account.
type host struct {
	*pdstest.InProcess
	pdstest.Session
}

func newHost(t *testing.T, o pdstest.Options) host {
	t.Helper()
	s := pdstest.Start(t, o)
	return host{s, s.SignUp(t, "alice")}
}

// ref is a blob in JSON.
type ref struct {
	Type string `json:"$type"`
	Ref  struct {
		Link string `json:"$link"`
	} `json:"ref"`
	MimeType string `json:"mimeType"`
	Size     int64  `json:"size"`
}

// send makes an upload. It sends a length if body is a *strings.Reader.
func (h host) send(t *testing.T, body io.Reader, contentType string, header ...string) pdstest.Answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.Base+"/xrpc/com.atproto.repo.uploadBlob", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", pdstest.Bearer(h.AccessJwt))
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return pdstest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: raw}
}

// chunked hides a body's length.
func chunked(content string) io.Reader { return iotest.HalfReader(strings.NewReader(content)) }

func (h host) put(t *testing.T, body io.Reader, contentType string) ref {
	t.Helper()
	a := h.send(t, body, contentType)
	if a.Status != http.StatusOK {
		t.Fatalf("upload: %d %s", a.Status, a.Body)
	}
	var out struct{ Blob ref }
	a.Decode(t, &out)
	return out.Blob
}

// use writes a record that refers to blobs.
func (h host) use(t *testing.T, rkey string, blobs ...ref) pdstest.Answer {
	t.Helper()
	return h.Do(t, pdstest.Request{NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(h.AccessJwt), Body: map[string]any{
		"repo": h.DID, "collection": "com.example.album", "rkey": rkey,
		"record": map[string]any{"$type": "com.example.album", "pictures": blobs},
	}})
}

func (h host) mustUse(t *testing.T, rkey string, blobs ...ref) {
	t.Helper()
	if a := h.use(t, rkey, blobs...); a.Status != http.StatusOK {
		t.Fatalf("record: %d %s", a.Status, a.Body)
	}
}

// get calls getBlob.
func (h host) get(t *testing.T, cid string, header ...string) pdstest.Answer {
	t.Helper()
	r := pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + h.DID + "&cid=" + cid, Header: http.Header{}}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return h.Do(t, r)
}

// files counts the files in the folder of uploads.
func (h host) files(t *testing.T) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(h.DataDir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != durable.LockName {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUploadBlob(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{Settings: []string{"PDS_BLOB_UPLOAD_LIMIT=1000"}})
	a := h.send(t, strings.NewReader("hello"), "text/plain; charset=utf-8")
	want := `{"blob":{"$type":"blob","ref":{"$link":"bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"},"mimeType":"text/plain","size":5}}`
	if string(a.Body) != want || a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%d %s\nwant %s", a.Status, a.Body, want)
	}
	for name, body := range map[string]func(n int) io.Reader{
		"length":  func(n int) io.Reader { return strings.NewReader(strings.Repeat("x", n)) },
		"chunked": func(n int) io.Reader { return chunked(strings.Repeat("x", n)) },
	} {
		if r := h.put(t, body(1000), "text/plain"); r.Size != 1000 {
			t.Errorf("%s: %+v", name, r)
		}
		h.send(t, body(1001), "text/plain").WantError(t, http.StatusRequestEntityTooLarge, "PayloadTooLarge", "request entity too large")
		if r := h.put(t, body(0), "image/png"); r.Size != 0 || r.MimeType != "image/png" {
			t.Errorf("%s, empty: %+v", name, r)
		}
	}
	for _, contentType := range []string{"", ";", "nonsense", "/", "a/", "/b", "a/b/c d", "text/plain, image/png", "text/" + strings.Repeat("x", 300)} {
		h.send(t, strings.NewReader("x"), contentType).
			WantError(t, http.StatusBadRequest, "InvalidRequest", "Request encoding (Content-Type) required but not provided")
	}
	h.send(t, strings.NewReader("x"), "text/plain", "Content-Encoding", "gzip").
		WantError(t, http.StatusUnsupportedMediaType, "InvalidRequest", "unsupported content-encoding")
	h.send(t, strings.NewReader("x"), "text/plain", "Authorization", "Bearer x").WantError(t, http.StatusBadRequest, "InvalidToken", "Token could not be verified")
	// "hello", the thousand, and the empty one; the rest left nothing behind except
	// replaced files, which are still to be removed.
	if n := h.files(t); n != 5 {
		t.Errorf("%d files", n)
	}
}

// TestTooLargeIsSaidFirst: a client that announces too much is refused before it
// sends it.
func TestTooLargeIsSaidFirst(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{})
	conn := h.dial(t)
	h.say(t, conn, "POST /xrpc/com.atproto.repo.uploadBlob HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Type: image/png\r\nContent-Length: 1000000000\r\n\r\n", h.AccessJwt)
	if status := h.hears(t, conn); status != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", status)
	}
	// A request that has no body at all is a mistake, an empty one is not.
	conn = h.dial(t)
	h.say(t, conn, "POST /xrpc/com.atproto.repo.uploadBlob HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: image/png\r\n\r\n", h.AccessJwt)
	if status := h.hears(t, conn); status != http.StatusBadRequest {
		t.Errorf("without a body: status %d", status)
	}
}

// hears returns the status of an answer.
func (h host) hears(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (h host) say(t *testing.T, conn net.Conn, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(conn, format, args...); err != nil {
		t.Fatal(err)
	}
}

func (h host) dial(t *testing.T) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.Replace(strings.TrimPrefix(h.Base, "http://"), "localhost", "127.0.0.1", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestDisconnect: a client that disconnects in the middle leaves nothing.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	log := make(lines, 100)
	h := newHost(t, pdstest.Options{Log: slog.New(slog.NewJSONHandler(log, nil))})
	for _, framing := range []string{"Content-Length: 200000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n30d40\r\n"} {
		conn := h.dial(t)
		h.say(t, conn, "POST /xrpc/com.atproto.repo.uploadBlob HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: image/png\r\n%s%s", h.AccessJwt, framing, strings.Repeat("x", 100_000))
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		for line := range log {
			if strings.Contains(line, "uploadBlob") {
				if !strings.Contains(line, `"status":400`) {
					t.Error(line)
				}
				break
			}
		}
		if n := h.files(t); n != 0 {
			t.Errorf("%d files", n)
		}
	}
}

// png is a picture of one pixel.
const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89" +
	"\x00\x00\x00\rIDATx\xdacd\xf8\xcfP\x0f\x00\x03\x86\x01\x80Z4}k\x00\x00\x00\x00IEND\xaeB`\x82"

// TestTypes: the type is what the content shows, under the reference's names, else
// what was declared. The reference gave the same answers, except for the last two.
func TestTypes(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{})
	for i, c := range []struct{ content, declared, want string }{
		{png, "image/jpeg", "image/png"},
		{png, "*/*", "image/png"},
		{"\xff\xd8\xff\xe0\x00\x10JFIF", "application/octet-stream", "image/jpeg"},
		{"GIF89a\x01\x00\x01\x00", "image/png", "image/gif"},
		{"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/png", "image/webp"},
		{"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1", "image/png", "image/avif"},
		{"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2", "x/y", "video/mp4"},
		{"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  ", "x/y", "video/quicktime"},
		{"RIFF\x24\x00\x00\x00AVI LIST\x00", "x/y", "video/vnd.avi"},
		{"RIFF\x24\x00\x00\x00WAVEfmt ", "x/y", "audio/wav"},
		{"ID3\x03\x00\x00\x00\x00\x00\x0a\xff\xfb", "x/y", "audio/mpeg"},
		{"%PDF-1.7\n", "x/y", "application/pdf"},
		{"7z\xbc\xaf\x27\x1c\x00\x04", "x/y", "application/x-7z-compressed"},
		{"Rar!\x1a\x07\x01\x00", "x/y", "application/x-rar-compressed"},
		{`{\rtf1\ansi`, "x/y", "application/rtf"},
		{"WEBVTT\n\n", "x/y", "text/vtt"},
		{"hello", "image/png", "image/png"},
		{"hello", "text/plain", "text/plain"},
		{`{"a":1}`, "application/json", "application/json"},
		{`{"a":1}`, "x/y", "x/y"},
		{"<!doctype html><html><script>alert(1)</script>", "text/html", "text/html"},
		{"<!doctype html><html><script>alert(1)</script>", "image/png", "image/png"},
		{`<svg xmlns="http://www.w3.org/2000/svg"></svg>`, "image/svg+xml", "image/svg+xml"},
		{`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>`, "image/svg+xml", "application/xml"},
		{"a,b\n1,2\n3,4\n", "x/y", "x/y"},
		{"#!/bin/sh\necho\n", "x/y", "x/y"},
		{"\x78\x9c\x01\x02", "x/y", "x/y"},
		{"\x00\x01\x02\x03", "application/octet-stream", "application/octet-stream"},
		{"", "video/mp4", "video/mp4"},
		{"hello", "text/plain; charset=utf-8", "text/plain"},
		{"hello", "text/plain; charset", "text/plain"},
		{"hello", `text/plain; charset="`, "text/plain"},
		{"hello", "text/plain; a=b; a=c", "text/plain"},
		{"hello", "text/plain;;", "text/plain"},
		{"hello", "video/mp4;codecs=avc1.4d002a,mp4a", "video/mp4"},
		{"hello", "*/*", "application/octet-stream"},
		{"hello", "Image/PNG", "image/png"},
	} {
		if r := h.put(t, strings.NewReader(c.content), c.declared); r.MimeType != c.want {
			t.Errorf("%d: %.20q declared as %s: %s, want %s", i, c.content, c.declared, r.MimeType, c.want)
		}
	}
}

// TestBigBlob: 100 MB are uploaded and downloaded in a few buffers.
func TestBigBlob(t *testing.T) {
	const size, limit = 100 << 20, 12 << 20
	h := newHost(t, pdstest.Options{Settings: []string{"PDS_BLOB_UPLOAD_LIMIT=200000000"}})
	h.mustUse(t, "warm", h.put(t, strings.NewReader("warm"), "text/plain"))
	allocated := func(what string, fn func()) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		fn()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > limit {
			t.Errorf("%s: %d bytes allocated for a blob of %d", what, n, size)
		}
	}
	var big ref
	allocated("upload", func() { big = h.put(t, io.LimitReader(endless{}, size), "video/x-endless") })
	if big.Size != size || big.MimeType != "video/x-endless" {
		t.Fatalf("%+v", big)
	}
	h.mustUse(t, "big", big)
	allocated("download", func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.Base+"/xrpc/com.atproto.sync.getBlob?did="+h.DID+"&cid="+big.Ref.Link, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

func TestQuotaOnTheWire(t *testing.T) {
	t.Parallel()
	h := newHost(t, pdstest.Options{Settings: []string{"PDS_BLOB_QUOTA=10"}})
	h.put(t, strings.NewReader("123456"), "text/plain")
	h.send(t, strings.NewReader("78901"), "text/plain").
		WantError(t, http.StatusBadRequest, "BlobQuotaExceeded", "The account's blobs take as much room as they may")
	h.put(t, strings.NewReader("7890"), "text/plain")
}
