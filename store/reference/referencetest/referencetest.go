// Package referencetest writes data directories of a reference PDS, as @atproto/pds 0.5.35
// does: real databases, signed repositories, events and files. It shares no code with what
// reads them but the format of repositories.
package referencetest

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"golang.org/x/crypto/scrypt"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/dagcbor"
)

// Options are what a source has.
type Options struct {
	// Accounts is how many, Records how many each has, up to 390 in two commits.
	Accounts, Records int
	// Now is when the old server stopped; the source's times lie before it.
	Now time.Time
	// LeaveLogs leaves what was written last in the databases' logs, as a kill does.
	LeaveLogs bool
}

// Source is a data directory that was made.
type Source struct {
	Dir      string
	Accounts []*Account
	// Frames are the events as the old server sends them, from the first on.
	Frames [][]byte
	// Last is the last number of the event log.
	Last int64

	now    time.Time
	events *sqlite.Conn
	open   map[string]*sqlite.Conn // that are not closed, so that their logs stay
	leave  bool
}

// Account is an account that was made. What is special about the first ones: Plain has
// nothing, the others what their names say.
type Account struct {
	DID                     syntax.DID
	Handle, Email, Password string
	AppPassword             string // empty for none
	Key                     *atcrypto.PrivateKeyK256
	Head                    cid.Cid
	Rev                     syntax.TID
	Commit                  []byte
	Blob, TempBlob          cid.Cid // undefined for none
	// Keys are the keys of the records, by key.
	Keys []string
}

// The numbers of the accounts that are special, if there are so many.
const (
	Plain = iota
	Quarantined
	TakenDownByCase
	TakenDownByTime
	Deactivated
	WithAppPasswords
	WithCodes
	WithPreferences
	Special
)

// scryptSize is that of a password's hash, in bytes.
const scryptSize = 64

// hashes remembers what scryptHash made: tests make the same accounts again and again.
var hashes sync.Map

func scryptHash(password, salt string) string {
	made, _ := hashes.Load(password + salt)
	if hash, ok := made.(string); ok {
		return hash
	}
	key, err := scrypt.Key([]byte(password), []byte(salt), 16384, 8, 1, scryptSize)
	if err != nil {
		panic(err) // the parameters are right
	}
	hash := salt + ":" + hex.EncodeToString(key)
	hashes.Store(password+salt, hash)
	return hash
}

// Blobs returns the folder of blobs.
func (s *Source) Blobs() string { return filepath.Join(s.Dir, "blocks") }

// ActorDir returns the folder of an account.
func (s *Source) ActorDir(did syntax.DID) string {
	sum := sha256.Sum256([]byte(did))
	return filepath.Join(s.Dir, "actors", hex.EncodeToString(sum[:1]), did.String())
}

// didOf returns the DID of an account by its number.
func didOf(i int) syntax.DID {
	sum := sha256.Sum256(fmt.Appendf(nil, "account %d", i))
	return syntax.DID("did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:15])))
}

// ISO returns a time as the source writes it.
func ISO(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Make writes a source into the folder dir.
func Make(t testing.TB, dir string, o Options) *Source {
	t.Helper()
	s := &Source{Dir: dir, now: o.Now.UTC().Truncate(time.Millisecond), leave: o.LeaveLogs, open: map[string]*sqlite.Conn{}}
	if err := s.make(o); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Source) make(o Options) (err error) {
	for _, dir := range []string{
		s.Dir, filepath.Join(s.Dir, "actors", "reserved_keys"), filepath.Join(s.Blobs(), "tempt"),
		filepath.Join(s.Blobs(), "quarantine"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	accounts, err := s.database(filepath.Join(s.Dir, "account.sqlite"), accountTables)
	if err != nil {
		return err
	}
	documents, err := s.database(filepath.Join(s.Dir, "did_cache.sqlite"), documentTables)
	if err != nil {
		return err
	}
	if s.events, err = s.database(filepath.Join(s.Dir, "sequencer.sqlite"), eventTables); err != nil {
		return err
	}
	for _, c := range []*sqlite.Conn{accounts, documents, s.events} {
		if err := sqlitex.ExecuteTransient(c, "BEGIN", nil); err != nil {
			return err
		}
	}
	for i := range o.Accounts {
		if err := s.account(accounts, documents, i, o); err != nil {
			return fmt.Errorf("account %d: %w", i, err)
		}
	}
	if err := s.beside(accounts, documents); err != nil {
		return err
	}
	for _, c := range []*sqlite.Conn{accounts, documents, s.events} {
		if err := sqlitex.ExecuteTransient(c, "COMMIT", nil); err != nil {
			return err
		}
	}
	return s.close()
}

// database makes a database with these tables.
func (s *Source) database(path, tables string) (*sqlite.Conn, error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	s.open[path] = c
	for _, pragma := range []string{"PRAGMA synchronous=OFF", "PRAGMA wal_autocheckpoint=0"} {
		if err := sqlitex.ExecuteTransient(c, pragma, nil); err != nil {
			return nil, err
		}
	}
	return c, sqlitex.ExecuteScript(c, tables, nil)
}

// close closes the databases; logs that are to stay are put back as they were.
func (s *Source) close() error {
	var errs []error
	for path, c := range s.open {
		kept := map[string][]byte{}
		if s.leave {
			for _, suffix := range []string{"", "-wal"} {
				b, err := os.ReadFile(path + suffix)
				if err == nil {
					kept[path+suffix] = b
				}
			}
		}
		errs = append(errs, c.Close())
		for name, b := range kept {
			errs = append(errs, os.WriteFile(name, b, 0o600))
		}
	}
	clear(s.open)
	return errors.Join(errs...)
}

// run runs one statement with these parameters: texts, integers, bytes, nil.
func run(c *sqlite.Conn, sql string, args ...any) error {
	stmt, err := c.Prepare(sql)
	if err != nil {
		return err
	}
	for i, a := range args {
		switch v := a.(type) {
		case nil:
			stmt.BindNull(i + 1)
		case string:
			stmt.BindText(i+1, v)
		case int:
			stmt.BindInt64(i+1, int64(v))
		case int64:
			stmt.BindInt64(i+1, v)
		case bool:
			stmt.BindBool(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		default:
			panic(fmt.Sprintf("referencetest: %T", a))
		}
	}
	_, err = stmt.Step()
	return errors.Join(err, stmt.Reset())
}

// orNull is text, or NULL for none.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// account writes one account: its rows, its repository, its blobs, its events.
func (s *Source) account(accounts, documents *sqlite.Conn, i int, o Options) error {
	made := s.now.Add(-48 * time.Hour).Add(time.Duration(i) * time.Second)
	a := &Account{
		DID: didOf(i), Handle: fmt.Sprintf("user%d.test", i), Email: fmt.Sprintf("user%d@example.com", i),
		Password: "password-shared",
	}
	hash := scryptHash("password-shared", "00112233445566778899aabbccddeeff")
	if i < Special {
		a.Password = fmt.Sprintf("password-%d", i)
		hash = scryptHash(a.Password, fmt.Sprintf("%032x", i))
	}
	s.Accounts = append(s.Accounts, a)
	var err error
	if a.Key, err = keyOf(a.DID); err != nil {
		return err
	}
	takedown, deactivated, after := "", "", ""
	switch i {
	case TakenDownByCase:
		takedown = "case-2"
	case TakenDownByTime:
		takedown = ISO(s.now.Add(-time.Hour))
	case Deactivated:
		deactivated, after = ISO(s.now.Add(-2*time.Hour)), ISO(s.now.Add(-time.Hour))
	}
	confirmed := ""
	if i%2 == 0 {
		confirmed = ISO(made.Add(time.Minute))
	}
	err = errors.Join(
		run(accounts, "INSERT INTO actor VALUES (?, ?, ?, ?, ?, ?)", a.DID.String(), a.Handle, ISO(made), orNull(takedown), orNull(deactivated),
			orNull(after)),
		run(accounts, "INSERT INTO account VALUES (?, ?, ?, ?, ?)", a.DID.String(), a.Email, hash, orNull(confirmed), i == Plain),
		run(accounts, "INSERT INTO refresh_token VALUES (?, ?, ?, NULL, NULL)", fmt.Sprintf("token-%d-%039d", i%10, i), a.DID.String(),
			ISO(s.now.Add(80*24*time.Hour))),
	)
	if err != nil {
		return err
	}
	if i%3 != 0 {
		if err := run(documents, "INSERT INTO did_doc VALUES (?, ?, ?)", a.DID.String(), a.document(), s.now.UnixMilli()); err != nil {
			return err
		}
	}
	if err := s.repository(a, i, o.Records, made); err != nil {
		return err
	}
	if err := run(accounts, "INSERT INTO repo_root VALUES (?, ?, ?, ?)", a.DID.String(), a.Head.String(), a.Rev.String(),
		ISO(made)); err != nil {
		return err
	}
	switch i {
	case TakenDownByCase, TakenDownByTime:
		return s.event(a.DID, "account", map[string]any{"did": a.DID.String(), "active": false, "status": "takendown"}, s.now.Add(-time.Hour))
	case Deactivated:
		return s.event(a.DID, "account", map[string]any{"did": a.DID.String(), "active": false, "status": "deactivated"}, s.now.Add(-time.Hour))
	}
	return nil
}

func keyOf(did syntax.DID) (*atcrypto.PrivateKeyK256, error) {
	sum := sha256.Sum256([]byte("key of " + did.String()))
	return atcrypto.ParsePrivateBytesK256(sum[:])
}

// document returns the account's DID document.
func (a *Account) document() string {
	public, err := a.Key.PublicKey()
	if err != nil {
		panic(err) // of a key that was parsed
	}
	return fmt.Sprintf(`{"@context":["https://www.w3.org/ns/did/v1"],"id":%q,"alsoKnownAs":["at://%s"],"verificationMethod":[{"id":"%s#atproto",`+
		`"type":"Multikey","controller":%q,"publicKeyMultibase":%q}],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer",`+
		`"serviceEndpoint":"https://pds.test"}]}`, a.DID, a.Handle, a.DID, a.DID, public.Multibase())
}

// event appends to the event log.
func (s *Source) event(did syntax.DID, kind string, message map[string]any, at time.Time) error {
	body, err := dagcbor.Encode(message)
	if err != nil {
		return err
	}
	if err := run(s.events, "INSERT INTO repo_seq (did, eventType, event, sequencedAt) VALUES (?, ?, ?, ?)", did.String(), kind, body,
		ISO(at)); err != nil {
		return err
	}
	s.Last = s.events.LastInsertRowID()
	name := "#" + kind
	if kind == "append" {
		name = "#commit"
	}
	message["seq"], message["time"] = s.Last, ISO(at)
	head, err := dagcbor.Encode(map[string]any{"t": name, "op": int64(1)})
	if err != nil {
		return err
	}
	frame, err := dagcbor.Append(head, message)
	s.Frames = append(s.Frames, frame)
	return err
}

// appPasswordSalt is the salt of all app passwords of an account.
func appPasswordSalt(did syntax.DID) string {
	sum := sha256.Sum256([]byte(did))
	return hex.EncodeToString(sum[:16])
}

// beside writes what only some accounts have, and what belongs to none.
func (s *Source) beside(accounts, documents *sqlite.Conn) error {
	if len(s.Accounts) < Special {
		return nil
	}
	at := func(i int) string { return s.Accounts[i].DID.String() }
	before := func(d time.Duration) string { return ISO(s.now.Add(-d)) }
	app := s.Accounts[WithAppPasswords]
	app.AppPassword = "abcd-efgh-ijkl-mn23"
	salt := appPasswordSalt(app.DID)
	key, err := keyOf("did:plc:reserved")
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	reserved := filepath.Join(s.Dir, "actors", "reserved_keys")
	return errors.Join(
		run(accounts, "INSERT INTO app_password VALUES (?, ?, ?, ?, ?)", at(WithAppPasswords), "phone", scryptHash(app.AppPassword, salt),
			before(time.Hour), 0),
		run(accounts, "INSERT INTO app_password VALUES (?, ?, ?, ?, ?)", at(WithAppPasswords), "watch", scryptHash("wxyz-efgh-ijkl-mn23", salt),
			before(time.Hour), 1),
		run(accounts, "INSERT INTO app_password VALUES (?, ?, ?, ?, ?)", "did:plc:gone", "old", "x:y", before(time.Hour), 0),
		run(accounts, "INSERT INTO invite_code VALUES ('pds-test-aaaaa-bbbbb', 3, 0, 'admin', 'admin', ?)", before(90*time.Hour)),
		run(accounts, "INSERT INTO invite_code VALUES ('pds-test-ccccc-ddddd', 1, 1, ?, ?, ?)", at(Plain), at(Plain), before(80*time.Hour)),
		run(accounts, "INSERT INTO invite_code_use VALUES ('pds-test-aaaaa-bbbbb', ?, ?)", at(Plain), before(48*time.Hour)),
		run(accounts, "INSERT INTO email_token VALUES ('reset_password', ?, 'ABCDE-FGHIJ', ?)", at(WithCodes), before(time.Minute)),
		run(accounts, "INSERT INTO email_token VALUES ('confirm_email', ?, 'ZZZZZ-FGHIJ', ?)", at(WithCodes), before(time.Hour)),
		run(accounts, "INSERT INTO lexicon VALUES ('com.example.set', ?, ?, ?, NULL, NULL)", before(time.Hour), before(time.Hour), nil),
		run(documents, "INSERT INTO did_doc VALUES ('did:plc:elsewhere', '{}', 1)"),
		os.WriteFile(filepath.Join(reserved, public.DIDKey()), key.Bytes(), 0o600),
		os.WriteFile(filepath.Join(reserved, "did:plc:comingincomingincoming2"), key.Bytes(), 0o600),
		// An account that was deleted: its last event is left, and a gap.
		run(s.events, "INSERT INTO repo_seq (seq, did, eventType, event, sequencedAt) VALUES (?, 'did:plc:gone', 'identity', x'a0', ?)",
			s.Last+3, before(time.Second)),
		run(s.events, "UPDATE repo_seq SET invalidated = 1 WHERE seq = ?", s.Last+3),
		s.event("did:plc:gone", "account", map[string]any{"did": "did:plc:gone", "active": false, "status": "deleted"}, s.now.Add(-time.Second)),
	)
}

// Dump returns the rows of queries on a database, as text.
func Dump(path string, queries []string) (_ string, err error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var out strings.Builder
	for _, q := range queries {
		err := sqlitex.ExecuteTransient(c, q, &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
			for i := range r.ColumnCount() {
				out.WriteString(r.ColumnText(i) + "\t")
			}
			out.WriteString("\n")
			return nil
		}})
		if err != nil {
			return "", fmt.Errorf("%s: %w", q, err)
		}
	}
	return out.String(), nil
}

// SeqField returns how a frame has its number.
func SeqField(seq int64) []byte { return dagcbor.AppendInt(dagcbor.AppendText(nil, "seq"), seq) }
