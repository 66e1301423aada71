package web

import (
	"io"
	"net/http"
	"net/url"
	"strconv"

	"nestbox/admin"
)

// picturePath is where the admin page shows a blob as a picture.
const picturePath = DeskPath + "content/picture"

// pictureOf returns the path of the picture that the content page shows.
func pictureOf(args admin.ContentArgs) string {
	return picturePath + "?" + url.Values{"account": {args.Account}, "blob": {args.Blob}}.Encode()
}

// showPicture is /admin/content/picture: a blob, as one of the few types that cannot hold a
// script, and behind a policy that lets nothing run in it.
func (p *AdminPages) showPicture(q *deskQuery) error {
	b, file, err := p.Admin.Picture(q.r.Context(), admin.ContentArgs{Account: q.asked("account"), Blob: q.asked("blob")})
	if err != nil {
		return p.missing(q)
	}
	defer func() { _ = file.Close() }() // it was only read
	h := q.w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Content-Type", b.MimeType)
	h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	if _, err := io.Copy(q.w, file); err != nil {
		panic(http.ErrAbortHandler) // so that the picture is not taken for whole
	}
	return nil
}
