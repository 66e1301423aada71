package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var staticFiles embed.FS

// AssetPath is the path below which assets are served.
const AssetPath = "/account/assets/"

// The largest sizes, in bytes: a page is read on the slowest of phones too.
const (
	maxPage   = 50 << 10
	maxStyle  = 30 << 10
	maxScript = 8 << 10
)

// asset is a file that pages refer to.
type asset struct {
	kind string
	body []byte
}

// assets are the files of static/ and the generated brand.css. They lie under a hash of
// their bytes, so a browser may keep them for ever.
type assets struct {
	files map[string]asset  // by path behind AssetPath: hash/name
	paths map[string]string // by name: the whole path
}

func readAssets(brand []byte) (*assets, error) {
	a := &assets{files: map[string]asset{}, paths: map[string]string{}}
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		body, err := fs.ReadFile(staticFiles, "static/"+e.Name())
		if err != nil {
			return nil, err
		}
		if err := a.add(e.Name(), body); err != nil {
			return nil, err
		}
	}
	return a, a.add("brand.css", brand)
}

func (a *assets) add(name string, body []byte) error {
	limit := maxScript
	if path.Ext(name) == ".css" {
		limit = maxStyle
	}
	if len(body) > limit {
		return fmt.Errorf("%s has %d bytes, more than %d", name, len(body), limit)
	}
	kind := mime.TypeByExtension(path.Ext(name))
	switch path.Ext(name) { // the system's table may lack them
	case ".css":
		kind = "text/css; charset=utf-8"
	case ".js":
		kind = "text/javascript; charset=utf-8"
	case ".svg":
		kind = "image/svg+xml"
	}
	sum := sha256.Sum256(body)
	at := hex.EncodeToString(sum[:8]) + "/" + name
	a.files[at] = asset{kind, body}
	a.paths[name] = AssetPath + at
	return nil
}

// ServeAsset answers GET and HEAD of a path below AssetPath.
func (p *Pages) ServeAsset(w http.ResponseWriter, r *http.Request) {
	found, ok := p.assets.files[strings.TrimPrefix(r.URL.Path, AssetPath)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", found.kind)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	// An SVG that is opened by itself runs nothing either.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; frame-ancestors 'none'")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(found.body))
}
