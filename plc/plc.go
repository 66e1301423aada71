// Package plc makes and checks did:plc operations
// (https://web.plc.directory/spec/v0.1/did-plc), follows their log, and makes the DID
// document that they result in. It is pure: no I/O, no clock.
package plc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"
)

// Limits of the specification and of the directory. The specification has 5 rotation
// keys, the directory accepts 10.
const (
	MaxOperation    = 7500 // bytes of DAG-CBOR, signed
	MaxRotationKeys = 10
	maxMethods      = 10
	maxServices     = 10
	maxAliases      = 10
	maxName         = 32
	maxAlias        = 258 // "at://" and a handle of 253
	maxEndpoint     = 512
	maxServiceType  = 256
)

const (
	methodAtproto  = "atproto"
	servicePDS     = "atproto_pds"
	typePDS        = "AtprotoPersonalDataServer"
	typeOperation  = "plc_operation"
	aliasPrefix    = "at://"
	keyPrefix      = "did:key:"
	methodMultikey = "Multikey"
)

// ErrOperation: an operation breaks a rule of the specification; the text names the
// rule.
var ErrOperation = errors.New("improper operation")

func improper(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrOperation, fmt.Sprintf(format, args...))
}

// Data is the content of an identity.
type Data struct {
	// RotationKeys (did:key) may change the identity, the strongest first.
	RotationKeys []string
	// SigningKey (did:key) signs the account's repository.
	SigningKey string
	Handle     syntax.Handle
	// PDS is the URL of the account's host.
	PDS string
}

// Create returns the signed genesis operation of an identity and the DID that
// it makes. Repeated rotation keys are dropped.
func Create(d Data, signer atcrypto.PrivateKey) (syntax.DID, *didplc.RegularOp, error) {
	op := &didplc.RegularOp{
		Type:                typeOperation,
		RotationKeys:        unique(d.RotationKeys),
		VerificationMethods: map[string]string{methodAtproto: d.SigningKey},
		AlsoKnownAs:         []string{aliasPrefix + d.Handle.String()},
		Services:            map[string]didplc.OpService{servicePDS: {Type: typePDS, Endpoint: d.PDS}},
	}
	if err := op.Sign(signer); err != nil {
		return "", nil, fmt.Errorf("sign genesis operation: %w", err)
	}
	if err := Check(op); err != nil {
		return "", nil, err
	}
	did, err := op.DID()
	if err != nil {
		return "", nil, fmt.Errorf("derive DID: %w", err)
	}
	return syntax.DID(did), op, nil
}

// unique returns a list with each entry at its first place only.
func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Change is what an operation changes of an identity: a nil field changes nothing.
type Change struct {
	RotationKeys        []string
	AlsoKnownAs         []string
	VerificationMethods map[string]string
	Services            map[string]didplc.OpService
}

// check checks what is changed, as Check does.
func (c Change) check() error {
	var errs []error
	if c.RotationKeys != nil {
		errs = append(errs, checkRotation(c.RotationKeys))
	}
	if c.AlsoKnownAs != nil {
		errs = append(errs, checkAliases(c.AlsoKnownAs))
	}
	return errors.Join(append(errs, checkMethods(c.VerificationMethods), checkServices(c.Services))...)
}

// Update returns the signed operation that follows last with a change. Legacy
// genesis operations are carried over into today's form, as the specification
// demands. The rest stays as others wrote it, improper or not, except repeated
// rotation keys: those are dropped.
func Update(last didplc.OpEnum, c Change, signer atcrypto.PrivateKey) (*didplc.RegularOp, error) {
	if c.RotationKeys != nil {
		c.RotationKeys = append([]string{}, unique(c.RotationKeys)...)
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return follow(last, c, signer)
}

// follow is Update that does not check the change.
func follow(last didplc.OpEnum, c Change, signer atcrypto.PrivateKey) (*didplc.RegularOp, error) {
	next, err := regular(last)
	if err != nil {
		return nil, err
	}
	prev := last.AsOperation().CID().String()
	next.Type, next.Prev, next.Sig = typeOperation, &prev, nil
	if c.RotationKeys != nil {
		next.RotationKeys = c.RotationKeys
	}
	if c.AlsoKnownAs != nil {
		next.AlsoKnownAs = c.AlsoKnownAs
	}
	if c.VerificationMethods != nil {
		next.VerificationMethods = c.VerificationMethods
	}
	if c.Services != nil {
		next.Services = c.Services
	}
	next.RotationKeys = unique(next.RotationKeys)
	if err := next.Sign(signer); err != nil {
		return nil, fmt.Errorf("sign operation: %w", err)
	}
	return &next, errors.Join(checkForm(&next), checkSize(&next))
}

// regular returns an operation in today's form. The caller must not change its lists.
func regular(last didplc.OpEnum) (didplc.RegularOp, error) {
	switch {
	case last.Regular != nil:
		return *last.Regular, nil
	case last.Legacy != nil:
		return last.Legacy.RegularOp(), nil
	default:
		return didplc.RegularOp{}, improper("the identity is a tombstone")
	}
}

// Amend is Update of the handle, the signing key and the host in d, each in the place
// of the first one; what is empty in d, and everything else, stays.
func Amend(last didplc.OpEnum, d Data, signer atcrypto.PrivateKey) (*didplc.RegularOp, error) {
	op, err := regular(last)
	if err != nil {
		return nil, err
	}
	var own, c Change
	if d.Handle != "" {
		own.AlsoKnownAs = []string{aliasPrefix + d.Handle.String()}
		c.AlsoKnownAs = renamed(op.AlsoKnownAs, own.AlsoKnownAs[0])
	}
	if d.SigningKey != "" {
		own.VerificationMethods = map[string]string{methodAtproto: d.SigningKey}
		c.VerificationMethods = with(op.VerificationMethods, own.VerificationMethods)
	}
	if d.PDS != "" {
		own.Services = map[string]didplc.OpService{servicePDS: {Type: typePDS, Endpoint: d.PDS}}
		c.Services = with(op.Services, own.Services)
	}
	if err := own.check(); err != nil {
		return nil, err
	}
	return follow(last, c, signer)
}

// renamed puts an alias in the place of the first handle, and removes later copies of
// it.
func renamed(aliases []string, alias string) []string {
	first := slices.IndexFunc(aliases, func(a string) bool { return strings.HasPrefix(a, aliasPrefix) })
	if first < 0 {
		return append([]string{alias}, aliases...)
	}
	others := slices.DeleteFunc(slices.Clone(aliases[first+1:]), func(a string) bool { return a == alias })
	return slices.Concat(aliases[:first], []string{alias}, others)
}

// with returns a copy of a map with entries added or replaced.
func with[V any](m, more map[string]V) map[string]V {
	out := map[string]V{}
	maps.Copy(out, m)
	maps.Copy(out, more)
	return out
}

// Decode is Parse for a new operation: it also calls Check.
func Decode(raw []byte) (didplc.OpEnum, error) {
	op, err := Parse(raw)
	if err != nil {
		return op, err
	}
	return op, Check(op.AsOperation())
}

// Parse reads a signed operation of any kind. Its content may break today's rules:
// directories have had others. ErrOperation: it is not an operation. Unknown members
// are refused: the signature would not cover them.
func Parse(raw []byte) (didplc.OpEnum, error) {
	var op didplc.OpEnum
	if err := op.UnmarshalJSON(raw); err != nil {
		return op, improper("%v", err)
	}
	if err := checkMembers(raw, op); err != nil {
		return op, err
	}
	return op, checkForm(op.AsOperation())
}

// checkMembers returns ErrOperation unless raw holds the members of its kind of
// operation and nothing else.
func checkMembers(raw []byte, op didplc.OpEnum) error {
	var got map[string]json.RawMessage
	if err := json.Unmarshal(raw, &got); err != nil {
		return improper("%v", err)
	}
	want := map[bool][]string{
		op.Regular != nil:   {"type", "rotationKeys", "verificationMethods", "alsoKnownAs", "services", "prev", "sig"},
		op.Tombstone != nil: {"type", "prev", "sig"},
		op.Legacy != nil:    {"type", "signingKey", "recoveryKey", "handle", "service", "prev", "sig"},
	}[true]
	for _, name := range want {
		value, ok := got[name]
		if !ok || name != "prev" && string(value) == "null" {
			return improper("%s is missing", name)
		}
		delete(got, name)
	}
	for name := range got {
		return improper("unknown member %q", name)
	}
	return nil
}

// Check returns ErrOperation if the form of a signed operation, its keys or its size
// are not as the specification demands. It does not verify the signature.
func Check(op didplc.Operation) error {
	if err := errors.Join(checkForm(op), checkSize(op)); err != nil {
		return err
	}
	switch op := op.(type) {
	case *didplc.RegularOp:
		return checkRegular(op)
	case *didplc.LegacyOp:
		return errors.Join(checkKey(op.SigningKey), checkKey(op.RecoveryKey))
	case *didplc.TombstoneOp:
		if op.Prev == "" {
			return improper("a tombstone follows nothing")
		}
		return nil
	default:
		return improper("unknown kind")
	}
}

// checkForm returns ErrOperation unless an operation is signed and has a CID.
func checkForm(op didplc.Operation) error {
	if !op.IsSigned() {
		return improper("it is not signed")
	}
	if len(op.SignedCBORBytes()) == 0 || !op.CID().Defined() {
		return improper("it cannot be encoded")
	}
	return nil
}

func checkSize(op didplc.Operation) error {
	if n := len(op.SignedCBORBytes()); n > MaxOperation {
		return improper("it has %d bytes, more than %d", n, MaxOperation)
	}
	return nil
}

func checkRegular(op *didplc.RegularOp) error {
	if op.Type != typeOperation {
		return improper("unknown type %q", op.Type)
	}
	return errors.Join(checkRotation(op.RotationKeys), checkMethods(op.VerificationMethods),
		checkServices(op.Services), checkAliases(op.AlsoKnownAs))
}

func checkRotation(keys []string) error {
	if len(keys) == 0 || len(keys) > MaxRotationKeys {
		return improper("there must be 1 to %d rotation keys", MaxRotationKeys)
	}
	for i, k := range keys {
		if err := checkKey(k); err != nil {
			return err
		}
		if slices.Contains(keys[:i], k) {
			return improper("rotation key %s is given twice", k)
		}
	}
	return nil
}

func checkMethods(methods map[string]string) error {
	if len(methods) > maxMethods {
		return improper("more than %d verification methods", maxMethods)
	}
	for name, k := range methods {
		if name == "" || len(name) > maxName || !strings.HasPrefix(k, keyPrefix) {
			return improper("verification method %q", name)
		}
	}
	return nil
}

func checkServices(services map[string]didplc.OpService) error {
	if len(services) > maxServices {
		return improper("more than %d services", maxServices)
	}
	for id, s := range services {
		if id == "" || len(id) > maxName || s.Endpoint == "" || len(s.Endpoint) > maxEndpoint || len(s.Type) > maxServiceType {
			return improper("service %q", id)
		}
	}
	return nil
}

func checkAliases(aliases []string) error {
	if len(aliases) > maxAliases {
		return improper("more than %d aliases", maxAliases)
	}
	for i, alias := range aliases {
		if alias == "" || len(alias) > maxAlias || slices.Contains(aliases[:i], alias) {
			return improper("alias %q", alias)
		}
	}
	return nil
}

// maxKeyText is longer than the did:key of every key in use. Decoding base58 takes
// time that grows with the square of the length.
const maxKeyText = 256

func checkKey(k string) error {
	if len(k) > maxKeyText {
		return improper("a rotation key of %d characters; the limit is %d", len(k), maxKeyText)
	}
	if _, err := atcrypto.ParsePublicDIDKey(k); err != nil {
		return improper("rotation key %q: %v", k, err)
	}
	return nil
}

// CheckRotationKey returns ErrOperation unless k (did:key) may be a rotation key.
func CheckRotationKey(k string) error { return checkKey(k) }

// DataOf reads an identity back from an operation; a tombstone has none.
func DataOf(op didplc.OpEnum) (Data, bool) {
	regular := op.Regular
	switch {
	case op.Legacy != nil:
		r := op.Legacy.RegularOp()
		regular = &r
	case regular == nil:
		return Data{}, false
	}
	d := Data{
		RotationKeys: regular.RotationKeys, SigningKey: regular.VerificationMethods[methodAtproto],
		PDS: regular.Services[servicePDS].Endpoint,
	}
	for _, alias := range regular.AlsoKnownAs {
		if name, ok := strings.CutPrefix(alias, aliasPrefix); ok {
			d.Handle = syntax.Handle(name)
			break
		}
	}
	return d, true
}
