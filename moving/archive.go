package moving

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

const (
	// maxDirectory bounds, in bytes, the list of files of an archive, and maxManifest its
	// manifest: each file of them takes memory.
	maxDirectory = 8 << 20
	maxManifest  = 16 << 20
	// maxPreferences and maxBlobList bound preferences.json and blobs.json, in bytes.
	maxPreferences = 4 << 20
	maxBlobList    = 64 << 20
	// Whatever sizes an archive claims, no more than ratio times its own size is read from
	// it, and freeReading bytes more.
	ratio       = 16
	freeReading = 64 << 20
	// archiveVersion is the form of archives that is read: see package export.
	archiveVersion = 1
	// An archive may hold freeUnnamed bytes that are not of a file that its manifest names,
	// and perFile more for each file: headers.
	freeUnnamed = 1 << 20
	perFile     = 1 << 10
	// maxNamed is the largest size of a file that counts: an archive may claim any.
	maxNamed = 1 << 40
)

// Errors of an archive. Their texts are for the log.
var (
	// ErrArchive: the file is neither a repository nor an archive of package export.
	ErrArchive = errors.New("not an archive of a server of this kind")
	// ErrDamaged: a file of the archive is not what its manifest says.
	ErrDamaged = errors.New("archive is damaged")
	// ErrNewer: the archive's form is of a later version.
	ErrNewer = errors.New("archive is of a later version")
	// ErrOther: the archive is of another account.
	ErrOther = errors.New("archive is of another account")
	// ErrBomb: the archive unpacks to more than it may.
	ErrBomb = errors.New("archive unpacks to too much")
)

// archive is one that is read. It trusts nothing that the file says of itself.
type archive struct {
	// parts is how many further archives hold the blobs, 0 for none.
	parts                 int
	repo, prefs, blobList *packed
	blobs                 []*packedBlob
	// odd are files below blobs/ that are not named as blobs are.
	odd []string
	// left is how many more bytes may be read.
	left int64
}

// packed is a file of an archive, as its manifest names it.
type packed struct {
	of   *archive
	file *zip.File
	size int64
	sum  [sha256.Size]byte
}

// packedBlob is a blob of an archive.
type packedBlob struct {
	*packed

	id       cid.Cid
	mimeType string
}

// bounded is a file of which only so much is read.
type bounded struct {
	io.ReaderAt

	left int64
}

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, fmt.Errorf("%w: its list of files is too long", ErrBomb)
	}
	return b.ReaderAt.ReadAt(p, at)
}

// openArchive reads the list of files and the manifest of an archive of the account did.
func openArchive(r io.ReaderAt, size int64, did string) (*archive, error) {
	// The list is read to its end whatever length is claimed, and each file takes memory.
	list := &bounded{r, maxDirectory}
	z, err := zip.NewReader(list, size)
	if errors.Is(err, ErrBomb) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrArchive, err)
	}
	list.left = size*ratio + freeReading // from here on, archive.left bounds what is read
	a := &archive{left: size*ratio + freeReading}
	files := map[string]*zip.File{}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") { // a folder
			continue
		}
		if err := plainFile(f); err != nil {
			return nil, err
		}
		if files[f.Name] != nil {
			return nil, fmt.Errorf("%w: it has %q twice", ErrArchive, f.Name)
		}
		files[f.Name] = f
	}
	return a, a.readManifest(files, did, size-freeUnnamed-perFile*int64(len(z.File)))
}

// plainFile returns an error if an entry is not a plain file below the archive's root.
func plainFile(f *zip.File) error {
	const encrypted = 1
	switch {
	case !fs.ValidPath(f.Name), strings.ContainsAny(f.Name, "\\:\x00"):
		return fmt.Errorf("%w: it has a file named %.100q", ErrArchive, f.Name)
	case f.Flags&encrypted != 0:
		return fmt.Errorf("%w: %.100q is encrypted", ErrArchive, f.Name)
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return fmt.Errorf("%w: %.100q is packed in an unknown way", ErrArchive, f.Name)
	default:
		return nil
	}
}

// readManifest notes the files that the manifest names, which take so many bytes of the
// archive at least. What it does not name is ignored.
func (a *archive) readManifest(files map[string]*zip.File, did string, least int64) error {
	f := files["manifest.json"]
	if f == nil {
		return fmt.Errorf("%w: it has no manifest.json", ErrArchive)
	}
	raw, err := readAll(&packed{of: a, file: f, size: -1}, maxManifest)
	if err != nil {
		return err
	}
	var m struct {
		Version int    `json:"version"`
		DID     string `json:"did"`
		Parts   int    `json:"parts"`
		Part    *struct{}
		Files   []struct {
			Name   string `json:"name"`
			Size   int64  `json:"size"`
			SHA256 string `json:"sha256"`
		} `json:"files"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("%w: its manifest: %w", ErrArchive, err)
	}
	switch {
	case m.Version > archiveVersion:
		return ErrNewer
	case m.Version != archiveVersion:
		return fmt.Errorf("%w: its manifest has no version", ErrArchive)
	case m.DID != did:
		return ErrOther
	}
	if m.Part == nil {
		a.parts = max(m.Parts, 0)
	}
	seen := map[string]bool{}
	for _, named := range m.Files {
		p := &packed{of: a, file: files[named.Name], size: named.Size}
		sum, err := hex.DecodeString(named.SHA256)
		switch {
		case err != nil, len(sum) != sha256.Size, named.Size < 0, seen[named.Name]:
			return fmt.Errorf("%w: its manifest has no hash for %.100q", ErrArchive, named.Name)
		case p.file == nil:
			return fmt.Errorf("%w: it lacks %.100q", ErrDamaged, named.Name)
		}
		seen[named.Name] = true
		least -= int64(min(p.file.CompressedSize64, maxNamed))
		p.sum = [sha256.Size]byte(sum)
		a.note(named.Name, p)
	}
	if least -= int64(min(f.CompressedSize64, maxNamed)); least > 0 {
		return fmt.Errorf("%w: it holds %d bytes that its manifest does not name", ErrArchive, least)
	}
	slices.SortFunc(a.blobs, func(x, y *packedBlob) int { return strings.Compare(x.id.String(), y.id.String()) })
	return nil
}

// note notes a file that the manifest names.
func (a *archive) note(name string, p *packed) {
	switch dir, file := path.Split(name); {
	case name == "repo.car":
		a.repo = p
	case name == "preferences.json":
		a.prefs = p
	case name == "blobs.json":
		a.blobList = p
	case dir == "blobs/":
		text, _, _ := strings.Cut(file, ".")
		id, err := dagcbor.ParseCID(text)
		if err != nil || !dagcbor.IsBlobCID(id) {
			a.odd = append(a.odd, name)
			return
		}
		a.blobs = append(a.blobs, &packedBlob{packed: p, id: id})
	}
}

// open returns the content of a file. Its reader returns ErrDamaged in place of io.EOF if the
// content is not what the manifest says.
func (p *packed) open() (io.ReadCloser, error) {
	r, err := p.file.Open()
	if err != nil {
		return nil, fmt.Errorf("%w: %.100q: %w", ErrDamaged, p.file.Name, err)
	}
	return &unpacking{ReadCloser: r, of: p, hash: sha256.New()}, nil
}

// unpacking is the content of a file while it is read.
type unpacking struct {
	io.ReadCloser

	of   *packed
	hash hash.Hash
	size int64
}

func (u *unpacking) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	u.size += int64(n)
	u.hash.Write(b[:n]) // never fails
	p := u.of
	if p.of.left -= int64(n); p.of.left < 0 {
		return 0, ErrBomb
	}
	switch known := p.size >= 0; {
	case known && u.size > p.size:
		return 0, fmt.Errorf("%w: %.100q is longer than its manifest says", ErrDamaged, p.file.Name)
	case errors.Is(err, io.EOF) && known && (u.size != p.size || [sha256.Size]byte(u.hash.Sum(nil)) != p.sum):
		return 0, fmt.Errorf("%w: %.100q", ErrDamaged, p.file.Name)
	case err != nil && !errors.Is(err, io.EOF):
		return 0, fmt.Errorf("%w: %.100q: %w", ErrDamaged, p.file.Name, err)
	}
	return n, err
}

// readAll returns a small file.
func readAll(p *packed, limit int64) (raw []byte, err error) {
	r, err := p.open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // it was only read
	raw, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%w: %.100q has more than %d bytes", ErrBomb, p.file.Name, limit)
	}
	return raw, err
}

// preferences returns those of the archive, without the white space of the file.
func (a *archive) preferences() ([]jsontext.Value, error) {
	if a.prefs == nil {
		return nil, nil
	}
	raw, err := readAll(a.prefs, maxPreferences)
	if err != nil {
		return nil, err
	}
	var in struct {
		Preferences []json.RawMessage `json:"preferences"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, fmt.Errorf("%w: its preferences: %w", ErrArchive, err)
	}
	list := make([]jsontext.Value, 0, len(in.Preferences))
	for _, one := range in.Preferences {
		v := jsontext.Value(one)
		if err := v.Compact(); err != nil {
			return nil, fmt.Errorf("%w: its preferences: %w", ErrArchive, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// readTypes notes the types that blobs.json names.
func (a *archive) readTypes() error {
	if a.blobList == nil || len(a.blobs) == 0 || a.blobList.size > maxBlobList {
		return nil // what the content shows is known all the same
	}
	r, err := a.blobList.open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	by := make(map[string]*packedBlob, len(a.blobs))
	for _, b := range a.blobs {
		by[b.id.String()] = b
	}
	d := json.NewDecoder(r)
	if _, err := d.Token(); err != nil {
		return a.badList(err)
	}
	for d.More() {
		var one struct {
			CID  string `json:"cid"`
			Type string `json:"type"`
		}
		if err := d.Decode(&one); err != nil {
			return a.badList(err)
		}
		if b := by[one.CID]; b != nil {
			b.mimeType = one.Type
		}
	}
	if _, err := io.Copy(io.Discard, io.MultiReader(d.Buffered(), r)); err != nil { // to the hash at its end
		return a.badList(err)
	}
	return nil
}

func (*archive) badList(err error) error {
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrBomb) {
		return err
	}
	return fmt.Errorf("%w: its list of blobs: %w", ErrArchive, err)
}
