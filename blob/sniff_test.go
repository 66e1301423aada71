package blob

import "testing"

// TestBrands: a file of the ISO base media format has the type that the reference
// finds by its major brand.
func TestBrands(t *testing.T) {
	t.Parallel()
	for brand, want := range map[string]string{
		// MPEG-4, of any codec (AVC, HEVC, AV1) and maker.
		"isom": "video/mp4", "iso2": "video/mp4", "iso4": "video/mp4", "iso5": "video/mp4", "iso6": "video/mp4", "iso8": "video/mp4", "iso9": "video/mp4",
		"mp41": "video/mp4", "mp42": "video/mp4", "mp71": "video/mp4", "avc1": "video/mp4", "hvc1": "video/mp4", "hev1": "video/mp4",
		"av01": "video/mp4", "dash": "video/mp4", "msdh": "video/mp4", "cmfc": "video/mp4", "dby1": "video/mp4", "MSNV": "video/mp4", "XAVC": "video/mp4",
		"NDAS": "video/mp4", "NDSC": "video/mp4", "mqt ": "video/mp4", "mj2s": "video/mp4", "KDDI": "video/mp4", "piff": "video/mp4", "caqv": "video/mp4",
		"M4P ": "video/mp4", "F4V ": "video/mp4", "F4P ": "video/mp4", "unkn": "video/mp4",
		"M4V ": "video/x-m4v", "M4VH": "video/x-m4v", "M4VP": "video/x-m4v",
		"qt  ": "video/quicktime", "qt\x00\x00": "video/quicktime",
		"3gp4": "video/3gpp", "3gp5": "video/3gpp", "3gp6": "video/3gpp", "3ge6": "video/3gpp", "3gg9": "video/3gpp", "3gr6": "video/3gpp", "3gs7": "video/3gpp",
		"3g2a": "video/3gpp2", "3g2b": "video/3gpp2", "3g2c": "video/3gpp2", "3g24": "video/3gpp2",
		"M4A ": "audio/x-m4a", "M4B ": "audio/mp4", "F4A ": "audio/mp4", "F4B ": "audio/mp4",
		"avif": "image/avif", "avis": "image/avif", "heic": "image/heic", "heix": "image/heic", "hevc": "image/heic-sequence", "hevx": "image/heic-sequence",
		"mif1": "image/heif", "msf1": "image/heif-sequence", "crx ": "image/x-canon-cr3",
	} {
		head := []byte("\x00\x00\x00\x18ftyp" + brand + "\x00\x00\x02\x00isommp41\x00\x00\x00\x08free")
		if got := typeOf(head, "x/y"); got != want {
			t.Errorf("brand %q: %s, want %s", brand, got, want)
		}
	}
	for head, want := range map[string]string{
		"\x00\x00\x00\x08wide\x00\x00\x1f\x00mdat": "video/quicktime",
		"\x12\x34\x56\x78mdat\xff\xd8\xff\xe0":     "video/quicktime",
		"\x00\x00\x02\x00moov\x00\x00\x00\x6cmvhd": "video/quicktime",
		"\x00\x00\x00\x10free\x00\x00\x00\x00":     "video/quicktime",
		"the wide world":                           "x/y",
		"get free beer":                            "x/y",
	} {
		if got := typeOf([]byte(head), "x/y"); got != want {
			t.Errorf("%q: %s, want %s", head, got, want)
		}
	}
	for _, head := range []string{
		"once ftypisom was written in a letter", // text
		"\x00\x00\x00\x18ftyp",                  // cut off
		"\x00\x00\x00\x18ftyp\x01\x02\x03\x04\x00\x00\x02\x00",
	} {
		if got := ofBrand([]byte(head)); got != "" {
			t.Errorf("%q: %s", head, got)
		}
	}
}
