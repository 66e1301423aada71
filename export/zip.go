package export

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"
)

// file is an entry of an archive, as its manifest names it.
type file struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// missing is what could not be read.
type missing struct {
	What   string `json:"what"`
	Reason string `json:"reason"`
}

// zipper writes an archive, and remembers what its manifest needs.
type zipper struct {
	zip     *zip.Writer
	at      time.Time
	files   []file
	missing []missing
	// counts are for the manifest.
	records, collections, blobs int

	open *entry
}

// entry is the file that is being written.
type entry struct {
	out  io.Writer
	hash hash.Hash
	file file
}

func newZip(w io.Writer, at time.Time) *zipper {
	return &zipper{zip: zip.NewWriter(w), at: at.UTC().Truncate(time.Second)}
}

// begin begins a file, and ends the one before. stored: it is not compressed.
func (z *zipper) begin(name string, stored bool) (io.Writer, error) {
	z.end()
	method := zip.Deflate
	if stored {
		method = zip.Store
	}
	out, err := z.zip.CreateHeader(&zip.FileHeader{Name: name, Method: method, Modified: z.at})
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", name, err)
	}
	z.open = &entry{out: out, hash: sha256.New(), file: file{Name: name}}
	return z.open, nil
}

// Write implements io.Writer.
func (e *entry) Write(p []byte) (int, error) {
	n, err := e.out.Write(p)
	e.hash.Write(p[:n])
	e.file.Size += int64(n)
	return n, err
}

// end ends the file that is being written, if there is one.
func (z *zipper) end() {
	if z.open == nil {
		return
	}
	z.open.file.SHA256 = hex.EncodeToString(z.open.hash.Sum(nil))
	z.files = append(z.files, z.open.file)
	z.open = nil
}

// text writes a file at once.
func (z *zipper) text(name, content string) error {
	out, err := z.begin(name, false)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, content)
	return err
}

// json writes a value as a file.
func (z *zipper) json(name string, v any) error {
	out, err := z.begin(name, false)
	if err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// lack notes what could not be read.
func (z *zipper) lack(what, reason string) { z.missing = append(z.missing, missing{what, reason}) }
