package identity

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/mr-tron/base58"
)

// Document is a DID document: what an identity says of itself
// (https://atproto.com/specs/did). What it says may be anything: the accessors
// return "" for what is missing or malformed.
type Document struct {
	// Raw is the document as it was received, JSON.
	Raw []byte
	ID  syntax.DID

	aliases  []string
	keys     []documentKey
	services []documentService
}

type documentKey struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	Multibase string `json:"publicKeyMultibase"`
}

type documentService struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Endpoint endpointText `json:"serviceEndpoint"`
}

// endpointText is an endpoint that is a text. Documents of other methods have lists and
// objects: they are "".
type endpointText string

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (e *endpointText) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return d.SkipValue()
	}
	t, err := d.ReadToken()
	if err == nil {
		*e = endpointText(t.String())
	}
	return err
}

// The fragments of what an account's document holds.
const (
	fragmentKey = "atproto"
	fragmentPDS = "atproto_pds"
	typePDS     = "AtprotoPersonalDataServer"
)

// ErrMalformed: a DID document cannot be read, or clients could not be shown it.
var ErrMalformed = errors.New("malformed DID document")

// ParseDocument reads the document of a DID, which is foreign: ErrMalformed.
func ParseDocument(did syntax.DID, raw []byte) (*Document, error) {
	var d struct {
		ID          string            `json:"id"`
		AlsoKnownAs []string          `json:"alsoKnownAs"`
		Keys        []documentKey     `json:"verificationMethod"`
		Services    []documentService `json:"service"`
	}
	if err := checkForeign(raw); err != nil {
		return nil, fmt.Errorf("%w: of %s: %w", ErrMalformed, did, err)
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fmt.Errorf("%w: of %s: %w", ErrMalformed, did, err)
	}
	if d.ID != did.String() {
		return nil, fmt.Errorf("%w: of %s: it has the id of another DID", ErrMalformed, did)
	}
	return &Document{Raw: raw, ID: did, aliases: d.AlsoKnownAs, keys: d.Keys, services: d.Services}, nil
}

// size returns how many bytes the document takes in memory, about.
func (d *Document) size() int {
	const element = 48 // the headers of three texts
	n := len(d.Raw)
	for _, a := range d.aliases {
		n += element + len(a)
	}
	for _, k := range d.keys {
		n += element + len(k.ID) + len(k.Type) + len(k.Multibase)
	}
	for _, s := range d.services {
		n += element + len(s.ID) + len(s.Type) + len(s.Endpoint)
	}
	return n
}

// Handle returns the handle that the document names, in lower case: its first
// alias that is an at:// URI, "" where that is no valid handle. Whether the
// handle names the DID too is another question.
func (d *Document) Handle() syntax.Handle {
	for _, alias := range d.aliases {
		if name, ok := strings.CutPrefix(alias, "at://"); ok {
			h, err := syntax.ParseHandle(name)
			if err != nil {
				return ""
			}
			return h.Normalize()
		}
	}
	return ""
}

// SigningKey returns the key, as did:key, that the account's commits and service
// tokens are signed with.
func (d *Document) SigningKey() string { return d.Key(fragmentKey) }

// PDS returns the URL of the account's host.
func (d *Document) PDS() string {
	return d.ServiceOf(fragmentPDS, typePDS)
}

// Key returns the key, as did:key, with an id of that fragment.
func (d *Document) Key(fragment string) string {
	for _, k := range d.keys {
		if !d.named(k.ID, fragment) {
			continue
		}
		key, err := k.parse()
		if err != nil {
			return ""
		}
		return key.DIDKey()
	}
	return ""
}

// maxKeyText is longer than the text of every key in use. To decode base58 takes
// time that grows with the square of the length.
const maxKeyText = 256

func (k documentKey) parse() (atcrypto.PublicKey, error) {
	if len(k.Multibase) > maxKeyText {
		return nil, fmt.Errorf("key %s: %d characters; the limit is %d", k.ID, len(k.Multibase), maxKeyText)
	}
	if k.Type == "Multikey" {
		return atcrypto.ParsePublicMultibase(k.Multibase)
	}
	// The older forms name the curve by their type, and hold the point alone.
	encoded, ok := strings.CutPrefix(k.Multibase, "z")
	if !ok {
		return nil, fmt.Errorf("key %s: not in base58btc", k.ID)
	}
	raw, err := base58.Decode(encoded)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.ID, err)
	}
	switch k.Type {
	case "EcdsaSecp256k1VerificationKey2019":
		return atcrypto.ParsePublicUncompressedBytesK256(raw)
	case "EcdsaSecp256r1VerificationKey2019":
		return atcrypto.ParsePublicUncompressedBytesP256(raw)
	default:
		return nil, fmt.Errorf("key %s: type %q", k.ID, k.Type)
	}
}

// Service returns the URL of the service with an id of that fragment.
func (d *Document) Service(fragment string) string {
	if s := d.service(fragment); s != nil {
		return endpoint(s)
	}
	return ""
}

// ServiceOf returns the URL of the service with an id of that fragment, if it is of that
// type.
func (d *Document) ServiceOf(fragment, kind string) string {
	if s := d.service(fragment); s != nil && s.Type == kind {
		return endpoint(s)
	}
	return ""
}

func (d *Document) service(fragment string) *documentService {
	for i := range d.services {
		if d.named(d.services[i].ID, fragment) {
			return &d.services[i]
		}
	}
	return nil
}

// named reports whether an id within the document, relative or absolute, has that
// fragment.
func (d *Document) named(id, fragment string) bool {
	return id == "#"+fragment || id == d.ID.String()+"#"+fragment
}

func endpoint(s *documentService) string {
	text := string(s.Endpoint)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" {
		return ""
	}
	return text
}
