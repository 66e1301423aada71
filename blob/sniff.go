package blob

import (
	"bytes"
	"mime"
	"strings"

	"github.com/gabriel-vasile/mimetype"
)

// sniffed is from how many of the first bytes the type is found.
const sniffed = 4096

const octetStream = "application/octet-stream"

// maxType bounds a declared type, in bytes.
const maxType = 255

// mediaType returns the type of a Content-Type header; not ok if there is none. Its
// parameters say nothing about a blob: as in the reference they are ignored,
// well-formed or not.
func mediaType(header string) (string, bool) {
	header, _, _ = strings.Cut(header, ";")
	mt, _, err := mime.ParseMediaType(header)
	if err != nil || len(mt) > maxType {
		return "", false
	}
	kind, sub, found := strings.Cut(mt, "/")
	switch {
	case !found || kind == "" || sub == "":
		return "", false
	case kind == "*" || sub == "*":
		return octetStream, true
	default:
		return mt, true
	}
}

// typeOf returns the type of content that begins with head. As the reference does,
// it believes the content if that is certain, and otherwise what was declared: text
// of all kinds looks alike, SVG and JSON too.
func typeOf(head []byte, declared string) string {
	found := mimetype.Detect(head)
	if t := certain(found, head); t != "" {
		return t
	}
	if declared == "" {
		return octetStream
	}
	return declared
}

// shown returns the type that a permission to upload must allow: what typeOf returns,
// but of text that is declared to be a picture, a sound, a film or a font, what that is.
// Such a blob keeps its declared type, as at the reference, and no browser takes it for a
// page; an app that may upload pictures may not upload it.
func shown(head []byte, declared string) string {
	found := mimetype.Detect(head)
	if certain(found, head) != "" || len(head) == 0 || !isText(found) {
		return typeOf(head, declared)
	}
	switch kind, _, _ := strings.Cut(declared, "/"); kind {
	case "image", "audio", "video", "font":
		name, _, _ := strings.Cut(found.String(), ";")
		return name
	default:
		return declared
	}
}

// certain returns the type that was found, under the reference's name for it, or
// nothing if the reference finds none.
func certain(found *mimetype.MIME, head []byte) string {
	if t := ofBrand(head); t != "" {
		return t
	}
	if !isText(found) && isMovie(head) {
		return "video/quicktime"
	}
	name, _, _ := strings.Cut(found.String(), ";")
	switch {
	case bytes.HasPrefix(bytes.TrimPrefix(head, []byte("\xEF\xBB\xBF")), []byte("<?xml ")):
		return "application/xml"
	case isText(found):
		return textTypes[name]
	case renamed[name] != "":
		return renamed[name]
	}
	kind, _, _ := strings.Cut(name, "/")
	switch kind {
	case "image", "audio", "video", "font":
		return name
	default:
		return plainNames[name]
	}
}

// ofBrand returns the type of a file of the ISO base media format (ISO/IEC 14496-12),
// which begins with a box that names its major brand; nothing for other files. There
// are more brands than anybody lists: one that is not in brands is a video.
func ofBrand(head []byte) string {
	const sizeAndKind, brand = 8, 4
	// A box that small has a first byte of zero, which no text has.
	if len(head) < sizeAndKind+brand || head[0] != 0 || string(head[4:sizeAndKind]) != "ftyp" || head[sizeAndKind]&0x60 == 0 {
		return ""
	}
	name := strings.TrimRight(string(head[sizeAndKind:sizeAndKind+brand]), " \x00")
	switch t := brands[name]; {
	case t != "":
		return t
	case strings.HasPrefix(name, "3g2"):
		return "video/3gpp2"
	case strings.HasPrefix(name, "3g"):
		return "video/3gpp"
	default:
		return "video/mp4"
	}
}

// isMovie reports whether head is that of a QuickTime file without a brand, which
// begins with a box of one of these kinds.
func isMovie(head []byte) bool {
	const kind, end = 4, 8
	if len(head) < end {
		return false
	}
	switch string(head[kind:end]) {
	case "moov", "mdat", "free", "wide":
		return true
	default:
		return false
	}
}

// brands are the major brands that are not video/mp4, as the reference has them.
var brands = map[string]string{
	"qt":   "video/quicktime",
	"M4V":  "video/x-m4v",
	"M4VH": "video/x-m4v",
	"M4VP": "video/x-m4v",
	"M4A":  "audio/x-m4a",
	"M4B":  "audio/mp4",
	"F4A":  "audio/mp4",
	"F4B":  "audio/mp4",
	"avif": "image/avif",
	"avis": "image/avif",
	"heic": "image/heic",
	"heix": "image/heic",
	"hevc": "image/heic-sequence",
	"hevx": "image/heic-sequence",
	"mif1": "image/heif",
	"msf1": "image/heif-sequence",
	"crx":  "image/x-canon-cr3",
}

func isText(m *mimetype.MIME) bool {
	for ; m != nil; m = m.Parent() {
		if m.Is("text/plain") {
			return true
		}
	}
	return false
}

// textTypes are the kinds of text that can be recognised by their beginning.
var textTypes = map[string]string{
	"text/rtf":      "application/rtf",
	"text/calendar": "text/calendar",
	"text/vcard":    "text/vcard",
	"text/vtt":      "text/vtt",
}

// renamed has types for which the reference has another name.
var renamed = map[string]string{
	"video/x-msvideo": "video/vnd.avi",
	"video/x-ms-asf":  "application/vnd.ms-asf",
	"image/jxr":       "image/vnd.ms-photo",
	"audio/musepack":  "audio/x-musepack",
	"audio/x-unknown": "audio/x-voc",

	"application/vnd.rar":                           "application/x-rar-compressed",
	"application/vnd.microsoft.portable-executable": "application/x-msdownload",
	"application/vnd.debian.binary-package":         "application/x-deb",
	"application/vnd.sqlite3":                       "application/x-sqlite3",
	"application/x-object":                          "application/x-elf",
	"application/x-executable":                      "application/x-elf",
	"application/x-sharedlib":                       "application/x-elf",
	"application/x-coredump":                        "application/x-elf",
}

// plainNames are the types of applications that the reference knows under the same
// name. Others are recognised by few bytes, with which anything may begin.
var plainNames = namesOf(
	"application/zip", "application/epub+zip", "application/pdf", "application/postscript", "application/ogg",
	"application/gzip", "application/zstd", "application/x-7z-compressed", "application/x-bzip2", "application/x-xz",
	"application/x-tar", "application/lzip", "application/vnd.ms-cab-compressed", "application/x-rpm", "application/x-elf",
	"application/dicom", "application/java-archive", "application/vnd.ms-htmlhelp", "application/x-shockwave-flash",
	"application/vnd.tcpdump.pcap", "model/gltf-binary", "application/wasm", "application/x-mobipocket-ebook",
	"application/vnd.ms-fontobject", "application/x-mach-binary",
	"application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.spreadsheet",
	"application/vnd.oasis.opendocument.presentation", "application/vnd.oasis.opendocument.graphics",
)

func namesOf(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, n := range names {
		m[n] = n
	}
	return m
}
