package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
)

// version is that of the archive's form.
const version = 1

// fileName names a download by its account and day.
func fileName(a *account.Account, at time.Time, part int, extension string) string {
	name := a.Handle.String()
	if name == "" {
		name = a.DID.String()
	}
	name = safeName(name) + "-" + at.UTC().Format(time.DateOnly)
	if part > 0 {
		name += "-files-" + strconv.Itoa(part)
	}
	return name + "." + extension
}

// safeName returns a name that is a plain file name everywhere: letters, digits, dots and
// dashes, all else as %XX. No two names have the same.
func safeName(name string) string {
	const most = 300
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		plain := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' && i > 0
		if plain && i < most {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// writeRepo writes the repository, and its records for people.
func (x *Archive) writeRepo(ctx context.Context, z *zipper) error {
	if x.snapshot == nil {
		return nil
	}
	out, err := z.begin("repo.car", true)
	if err == nil {
		err = x.snapshot.WriteCAR(out)
	}
	if err != nil {
		return err
	}
	collection := ""
	var line []byte
	return x.snapshot.EachRecord(func(r repo.Record) error { // the records of a collection come together
		if err := ctx.Err(); err != nil {
			return err
		}
		name, key, _ := strings.Cut(r.Key, "/")
		if name != collection || z.collections == 0 {
			collection = name
			z.collections++
			if out, err = z.begin("records/"+safeName(name)+".ndjson", false); err != nil {
				return err
			}
		}
		z.records++
		if line, err = recordLine(line[:0], key, &r); err != nil {
			z.lack("records/"+r.Key, err.Error())
			return nil //nolint:nilerr // missing.json names it
		}
		_, err = out.Write(line)
		return err
	})
}

// recordLine appends a record as a line of JSON.
func recordLine(dst []byte, key string, r *repo.Record) ([]byte, error) {
	name, err := json.Marshal(key)
	if err != nil {
		return dst, err
	}
	dst = append(append(dst, `{"rkey":`...), name...)
	dst = append(append(append(dst, `,"cid":"`...), r.CID.String()...), `","value":`...)
	if dst, err = dagcbor.AppendJSON(dst, r.Block); err != nil {
		return dst, err
	}
	return append(dst, "}\n"...), nil
}

// writeBlobs writes the files of the part, or all that there are if there are no parts.
func (x *Archive) writeBlobs(ctx context.Context, z *zipper) error {
	of := Part{}
	if x.part != nil {
		of = *x.part
	}
	out, err := z.begin("blobs.json", false)
	if err != nil {
		return err
	}
	between := "[\n"
	err = x.s.eachBlob(ctx, x.account.ID, of, func(u *blob.Kept) error {
		line, err := json.Marshal(map[string]any{
			"cid": u.CID.String(), "type": u.MimeType, "size": u.Size, "usedBy": u.Records,
			"file": blobName(u),
		})
		if err == nil {
			_, err = fmt.Fprintf(out, "%s%s", between, line)
		}
		between = ",\n"
		return err
	})
	if err == nil {
		end := "\n]\n"
		if between == "[\n" { // there was none
			end = "[" + end
		}
		_, err = io.WriteString(out, end)
	}
	if err != nil || x.part == nil && len(x.plan.Parts) > 0 {
		return err
	}
	return x.s.eachBlob(ctx, x.account.ID, of, func(u *blob.Kept) error { return x.writeBlob(ctx, z, u) })
}

// extensions are those of the types that people know.
var extensions = map[string]string{
	"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp", "image/avif": ".avif", "image/heic": ".heic",
	"image/svg+xml": ".svg", "video/mp4": ".mp4", "video/webm": ".webm", "video/quicktime": ".mov", "audio/mpeg": ".mp3", "audio/ogg": ".ogg",
	"audio/mp4": ".m4a", "text/plain": ".txt", "text/vtt": ".vtt", "application/pdf": ".pdf", "application/json": ".json",
}

// blobName returns the name of a blob's file in the archive.
func blobName(u *blob.Kept) string {
	extension := extensions[u.MimeType]
	if extension == "" {
		extension = ".bin"
	}
	return "blobs/" + u.CID.String() + extension
}

// writeBlob writes a blob's file. What cannot be read, or is not what it should be, is noted.
func (x *Archive) writeBlob(ctx context.Context, z *zipper, u *blob.Kept) error {
	name := blobName(u)
	if u.TakenDown {
		z.lack(name, "it was taken down by the server's moderators")
		return nil
	}
	_, from, err := x.s.Files.Open(ctx, x.account.ID, u.CID)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		reason := "its file cannot be opened"
		if errors.Is(err, blob.ErrNotFound) {
			reason = "it was deleted while the archive was made"
		}
		z.lack(name, reason)
		return nil
	}
	defer func() { _ = from.Close() }() // it was only read
	out, err := z.begin(name, true)
	if err != nil {
		return err
	}
	z.blobs++
	in := &faultyReader{r: from}
	if _, err := io.Copy(out, in); err != nil && in.err == nil {
		return err // the writer's
	}
	sum := u.CID.Hash()
	switch read := z.open.hash.Sum(nil); {
	case in.err != nil:
		z.lack(name, "its file could not be read to the end")
	case !bytes.HasSuffix(sum, read):
		z.lack(name, "its file is damaged")
	}
	return nil
}

// faultyReader remembers its own error, which is not the writer's.
type faultyReader struct {
	r   io.Reader
	err error
}

func (f *faultyReader) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// writeMissing names what could not be read, and the blobs that records refer to and that
// were never uploaded here.
func (x *Archive) writeMissing(ctx context.Context, z *zipper) error {
	for cursor := ""; x.part == nil; {
		page, err := x.s.Files.Missing(ctx, x.account.ID, cursor, pageOfBlobs, nil)
		if err != nil {
			return err
		}
		for _, m := range page {
			cursor = m.CID.String()
			z.lack("blobs/"+cursor, "the record "+m.Record+" refers to it, and it was never uploaded to this server")
		}
		if len(page) < pageOfBlobs {
			break
		}
	}
	if z.missing == nil {
		z.missing = []missing{}
	}
	return z.json("missing.json", z.missing)
}

// manifest names what an archive holds.
type manifest struct {
	Version  int    `json:"version"`
	Server   string `json:"server"`
	DID      string `json:"did"`
	MadeAt   string `json:"madeAt"`
	Revision string `json:"revision,omitempty"`
	Commit   string `json:"commit,omitempty"`
	// Parts is how many downloads the files of the account are in besides, 0 for none; Part is
	// set in one of those.
	Parts  int            `json:"parts"`
	Part   *Part          `json:"part,omitempty"`
	Counts map[string]int `json:"counts"`
	Files  []file         `json:"files"`
}

// writeManifest ends the archive.
func (x *Archive) writeManifest(z *zipper) error {
	if err := z.text("README.txt", readme(x)); err != nil {
		return err
	}
	z.end()
	m := manifest{
		Version: version, Server: x.s.Hostname, DID: x.account.DID.String(), MadeAt: z.at.Format(time.RFC3339), Parts: len(x.plan.Parts),
		Part:   x.part,
		Counts: map[string]int{"records": z.records, "collections": z.collections, "blobs": z.blobs, "missing": len(z.missing)}, Files: z.files,
	}
	if x.snapshot != nil {
		m.Revision, m.Commit = x.snapshot.Head.Rev.String(), x.snapshot.Head.CID.String()
	}
	if err := z.json("manifest.json", m); err != nil {
		return err
	}
	return z.zip.Close()
}

// readme explains the archive to people.
func readme(x *Archive) string {
	text := `This is all that the account ` + x.account.DID.String() + ` has on the server ` + x.s.Hostname + `.

repo.car          the repository: everything public, signed. Another server can import it.
records/          the same for people: a file of each kind, a line of JSON for each record.
blobs/            pictures and other files, named by the hash that records refer to them by.
blobs.json        the type and the size of each, and the records that use it.
preferences.json  what apps keep for you: settings, muted words, saved feeds.
account.json      handle, address, identity, sign-ins, apps, invites and what happened.
missing.json      what could not be read; [] if nothing is missing.
manifest.json     every file with its size and its SHA-256.

No password and no key is in here. Keep it to yourself all the same: it has your address
and the networks that you signed in from.
`
	if len(x.plan.Parts) > 0 {
		text += "\nThe account has many files: those of blobs/ are in " + strconv.Itoa(len(x.plan.Parts)) + " downloads of their own.\n"
	}
	return text
}
