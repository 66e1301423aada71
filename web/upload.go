package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"
)

const (
	// maxField bounds, in bytes, a field ahead of a file; maxHead all that comes ahead of it,
	// for which a browser has headPatience.
	maxField     = 4 << 10
	maxHead      = 64 << 10
	headPatience = 30 * time.Second
	// uploadPatience is how long a browser may take for one part of a file. How fast the
	// whole must come, its receiver decides.
	uploadPatience = 60 * time.Second
	// answerPatience is how long the answer to an upload may take to be read.
	answerPatience = 60 * time.Second
	// maxDrained is how much of a file that is refused is read all the same, and
	// drainPatience for how long: most browsers show no answer before they have sent
	// everything.
	maxDrained    = 64 << 20
	drainPatience = 60 * time.Second
)

// uploadPath is the address of the one form that brings a file, which its handler reads
// itself: every other form is small, and read whole.
const uploadPath = "/account/u/{did}/data/upload"

// errNoFile: the form brings no file.
var errNoFile = errors.New("the form brings no file")

// errHead: what comes ahead of the file is longer than a browser would send.
var errHead = errors.New("too much ahead of the file")

// upload is a form whose file is still to come.
type upload struct {
	form *multipart.Reader
	body *patientBody
}

type uploadKey struct{}

// beginUpload reads the one field ahead of the file, the token, into PostForm: the file is
// read only if that holds.
func beginUpload(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	body := &patientBody{ReadCloser: r.Body, conn: http.NewResponseController(w), until: time.Now().Add(headPatience), room: maxHead}
	r.Body = body
	form, err := r.MultipartReader()
	if err != nil {
		return r, fmt.Errorf("read form: %w", err)
	}
	part, err := form.NextPart()
	if err != nil {
		return r, fmt.Errorf("read form: %w", err)
	}
	value, err := io.ReadAll(io.LimitReader(part, maxField))
	if err != nil {
		return r, fmt.Errorf("read form: %w", err)
	}
	r = r.WithContext(context.WithValue(r.Context(), uploadKey{}, &upload{form, body}))
	body.until, body.room = time.Time{}, 0
	r.PostForm = url.Values{part.FormName(): {string(value)}}
	return r, nil
}

// patientBody gives each part of a body its own time, or all of them one, which ends at until;
// room is then how many bytes may come.
type patientBody struct {
	io.ReadCloser

	conn  *http.ResponseController
	until time.Time
	room  int
}

func (b *patientBody) Read(p []byte) (int, error) {
	until := b.until
	if until.IsZero() {
		until = time.Now().Add(uploadPatience)
	} else {
		if b.room == 0 {
			return 0, errHead
		}
		p = p[:min(len(p), b.room)]
	}
	if err := b.conn.SetReadDeadline(until); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if !b.until.IsZero() {
		b.room -= n
	}
	if errors.Is(err, io.EOF) {
		_ = b.conn.SetReadDeadline(time.Time{}) // what works on the file must not seem to have lost its client
	}
	return n, err
}

// file calls do with the file of the form, and then leaves time for an answer. Error:
// errNoFile, those of do.
func (u *upload) file(do func(io.Reader) error) error {
	err := errNoFile
	for {
		part, perr := u.form.NextPart()
		if errors.Is(perr, io.EOF) {
			break
		}
		if perr != nil {
			err = fmt.Errorf("%w: %w", errNoFile, perr)
			break
		}
		if part.FileName() == "" {
			continue
		}
		if err = do(part); err != nil {
			u.body.until, u.body.room = time.Now().Add(drainPatience), maxDrained
			_, _ = io.Copy(io.Discard, part) // for the answer to be seen
		}
		break
	}
	if derr := u.body.conn.SetWriteDeadline(time.Now().Add(answerPatience)); derr != nil && !errors.Is(derr, http.ErrNotSupported) {
		return errors.Join(err, derr)
	}
	return err
}
