// Package nestbox_test holds the project to its architecture: the arrows of
// docs/architecture.md as a table, and the sizes and habits that a reader of
// the code may count on. It reads source only, so it needs no build.
package nestbox_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path in go.mod; an import below it is an arrow.
const module = "nestbox"

// The sizes above which a file or a function is to be split by subject.
const (
	maxFileLines     = 600
	maxFunctionLines = 80
)

// rule lists what one package may import from this module.
type rule struct {
	// imports are the packages that its code may import.
	imports []string
	// anyInTests lets its tests import every package: a domain is tested over
	// the real store, often over a whole server. Without it tests have the
	// same arrows as the code.
	anyInTests bool
	// pure forbids I/O: the packages of impure.
	pure bool
	// domain: only its handlers, in the files xrpc*.go, import xrpc. Its errors are
	// sentinels, which a page or a command can show as well.
	domain bool
}

// arrows is the table. A package that it lacks fails the test, and so does a
// row whose package is gone.
func arrows() map[string]rule {
	// What is below every domain. internal/pdstest is not in it: it starts a
	// whole server, so only tests and the benchmarks use it.
	helpers := []string{"internal/ctxio", "internal/durable", "internal/gate", "internal/pause", "internal/safehttp", "internal/seal", "internal/system", "internal/tally"}
	const event = "firehose/event"                               // the names of statuses too
	format := []string{"dagcbor", "repo/car", "repo/mst", event} // of repositories and their events
	foundations := slices.Concat(helpers, []string{"request", "xrpc", "auth", "ratelimit", "plc", "mail", "oauth/jose", "oauth/dpop", "oauth/scope"})
	leaves := []string{"account", "identity", "repo", "blob", "firehose", "prefs", "oauth/client", "schema"}
	signing := []string{"signin", "session", "device"} // who it is, and the rows that are opened for them
	coordinating := []string{"hosting", "proxy", "oauth", "moving"}
	domains := slices.Concat(leaves, signing, coordinating)
	below := func(more ...[]string) []string { return slices.Concat(foundations, slices.Concat(more...)) }
	with := func(pkgs ...string) []string { return slices.Concat(helpers, pkgs) }

	return map[string]rule{
		// The root holds this test and nothing else.
		".": {},

		// Foundations know no domain, and neither do their tests.
		"request":                   {imports: with("ratelimit")},                                                        // any HTTP request: no protocol, no credential
		"xrpc":                      {imports: with("request")},                                                          // no domain, and no kind of credential
		"auth":                      {imports: with("request", "xrpc", "ratelimit", "oauth/scope", "oauth/dpop", event)}, // xrpc and the protocol only; guesses of the admin's password are counted
		"ratelimit":                 {imports: helpers},                                                                  // counts keys; what a key means is its caller's business
		"load":                      {imports: with("request"), pure: true},                                              // counts what happens; its caller has the clock and the gauges
		"metrics":                   {imports: []string{"request"}},                                                      // names and counts what Prometheus sees; the values of others come from its caller
		"mail":                      {imports: with("internal/messages"), anyInTests: true},                              // what is written to people, and how it leaves
		"plc":                       {pure: true},                                                                        // operations are values: nothing to import, nothing to reach
		"dagcbor":                   {pure: true},                                                                        // the data model: bytes to values and back
		"repo/mst":                  {imports: []string{"dagcbor"}, pure: true},                                          // the tree: nodes come and go through its caller
		"repo/car":                  {imports: []string{"dagcbor"}, pure: true},                                          // blocks in a stream: whose stream, its caller knows
		"firehose/event":            {imports: []string{"dagcbor", "repo/car"}, pure: true},                              // what the stream says, as bytes
		"proxy/readafterwrite":      {pure: true},                                                                        // answers: bytes and records in, bytes out; questions go through its caller
		"lexicon":                   {imports: []string{"dagcbor"}, pure: true},                                          // schemas and records: values in, a fault out
		"oauth/scope":               {pure: true},                                                                        // the language of permissions: text in, answers out
		"lexicon/internal/generate": {imports: []string{"lexicon"}},                                                      // writes the schemas from indigo's documents
		"plc/directory":             {imports: with("plc")},                                                              // a directory of its own, not a part of the PDS
		"store/sqlite/groupcommit":  {imports: helpers},                                                                  // closures over a connection; knows no table
		"internal/color":            {pure: true},                                                                        // colours and their contrast
		"internal/costtest":         {},                                                                                  // any test may measure a cost
		"internal/messages":         {},                                                                                  // catalogues of texts: files in, texts out
		"internal/durable":          {},                                                                                  // helpers without a domain stand alone
		"internal/dnstest":          {},                                                                                  // any test may have a name server
		"internal/gate":             {pure: true},                                                                        // the same; its callers have the clock
		"internal/ctxio":            {pure: true},                                                                        // a helper
		"internal/pause":            {},                                                                                  // the same
		"internal/seal":             {},                                                                                  // the same
		"internal/safehttp":         {},                                                                                  // the same
		"internal/system":           {},                                                                                  // the same
		"internal/logfile":          {},                                                                                  // a helper without a domain stands alone
		"internal/tally":            {pure: true},                                                                        // counts by words
		"internal/s3test":           {},                                                                                  // the same, for tests only
		"internal/smalldisk":        {},                                                                                  // the same, for tests only
		"config":                    {imports: with("mail", "datadir", "internal/color", "backup"), anyInTests: true},    // is read by server and cmd alone; domains get values
		"datadir":                   {imports: helpers},                                                                  // names, the lock and key files; knows no domain and no database
		"config/internal/manual":    {imports: []string{"config"}},                                                       // writes docs/settings.md from Config's comments

		// What OAuth clients send.
		"oauth/jose":      {pure: true},                                                    // signed JWTs and keys: bytes in, keys out
		"oauth/dpop":      {imports: []string{"oauth/jose"}, pure: true, anyInTests: true}, // proofs and nonces; its caller has the clock and the file
		"oauth/oauthtest": {},                                                              // what clients sign, for tests and benchmarks: shares no code with what checks it

		// Leaf domains: none imports another.
		"account":      {imports: below(format), anyInTests: true, domain: true},
		"identity":     {imports: below(), anyInTests: true, domain: true},
		"repo":         {imports: below(format, []string{"lexicon"}), anyInTests: true, domain: true},
		"blob":         {imports: below([]string{"dagcbor", event}), anyInTests: true, domain: true},
		"firehose":     {imports: below([]string{"firehose/event"}), anyInTests: true, domain: true},
		"prefs":        {imports: below([]string{"dagcbor", "lexicon"}), anyInTests: true, domain: true},
		"oauth/client": {imports: below(), anyInTests: true, domain: true},
		"schema":       {imports: below([]string{"dagcbor", "lexicon", "oauth/scope"}), anyInTests: true, domain: true},
		// Backups know bytes, pages and files, and no domain; depot is the folder or the bucket.
		"backup":       {imports: helpers, anyInTests: true},
		"backup/depot": {imports: with("backup"), anyInTests: true},
		// Where blobs lie, as their domain asks for it.
		"blob/disk": {imports: with("blob"), anyInTests: true},
		// Signing in, in this order: signin proves a person, session opens a row for them.
		"signin":  {imports: below(leaves), anyInTests: true, domain: true},
		"session": {imports: below(leaves, []string{"signin", "oauth/scope"}), anyInTests: true, domain: true},
		"device":  {imports: below([]string{"account"}), anyInTests: true, domain: true}, // gets who was proven as values
		// Coordinating domains import both, never each other.
		"hosting": {imports: below(leaves, signing, format), anyInTests: true, domain: true},
		"proxy":   {imports: below(leaves, []string{"proxy/readafterwrite"}), anyInTests: true, domain: true},
		"oauth":   {imports: below(leaves, signing, []string{"oauth/scope"}), anyInTests: true, domain: true},
		// What comes with an account that moves in.
		"moving": {imports: below(leaves, format), anyInTests: true, domain: true},
		// The operator's protocol: a socket and JSON; knows no command.
		"control": {imports: helpers},
		// The admin's view may import every domain.
		"admin": {imports: below(domains, format, []string{"control"}), anyInTests: true, domain: true},

		// All that an account has, for its owner to take along: reads every domain.
		"export": {imports: below(domains, []string{"dagcbor"}), anyInTests: true, domain: true},
		// Pages for people: may ask every domain, speaks no XRPC.
		"web":         {imports: slices.Concat(helpers, []string{"internal/color", "internal/messages", "request", "auth", "ratelimit", "mail", "load", "plc", "oauth/scope", "export", "admin"}, domains), anyInTests: true},
		"web/webtest": {imports: []string{"web", "moving"}}, // a sample of every page, for the tests of web and e2e/browser

		// The data directory of another server becomes ours.
		"takeover": {imports: below(domains, format, []string{"lexicon", "admin", "blob/disk"}), anyInTests: true},

		// Stores implement what domains declare, so they import the domains;
		// no domain imports a store.
		"store":                         {imports: slices.Concat(domains, []string{"admin", "mail", "takeover"})}, // the set of them, and what can be inspected of it, without code
		"store/sqlite":                  {imports: below(domains, format, []string{"admin", "backup", "store", "store/sqlite/groupcommit", "takeover"}), anyInTests: true},
		"store/reference/referencetest": {imports: []string{"dagcbor", "repo", "repo/car", "repo/mst"}},                                            // writes such databases, for tests
		"store/reference":               {imports: []string{"internal/durable", "internal/pause", "dagcbor", "takeover"}, anyInTests: true},        // another server's databases, which are only read
		"store/storetest":               {imports: below(domains, format, []string{"admin", "backup", "store", "store/sqlite"}), anyInTests: true}, // Open alone knows an implementation

		// The check of a data directory, over what the store and the files show.
		"verify": {imports: []string{"internal/durable", "internal/seal", "blob", "firehose", "hosting", "lexicon", "repo", "store"}, anyInTests: true},

		// Another server, looked at from outside: knows no domain, so that it asks a Nestbox as any other.
		"conformance": {imports: []string{"internal/safehttp"}},

		// Composition: server builds everything from config; only cmd and tests
		// import server.
		"server": {
			imports:    below(domains, format, []string{"lexicon", "load", "metrics", "admin", "backup", "backup/depot", "config", "control", "datadir", "plc/directory", "store", "store/sqlite", "blob/disk", "verify", "web", "export", "takeover", "store/reference"}),
			anyInTests: true,
		},
		"cmd/nestbox": {
			imports:    below(domains, format, []string{"internal/logfile", "lexicon", "admin", "backup", "backup/depot", "config", "conformance", "control", "server", "store", "verify", "takeover", "faults", "faults/findings"}),
			anyInTests: true,
		},

		// Faults on purpose stand around the server of serve --dev: reserved has the one command that
		// knows them.
		"faults":          {imports: []string{"internal/pause", "auth", "control", "oauth/dpop", "faults/findings"}, anyInTests: true},
		"faults/findings": {pure: true}, // calls in, findings out

		// Tests as packages: nothing but tests and benchmarks imports them.
		"internal/pdstest": {
			imports:    below(domains, format, []string{"lexicon", "admin", "config", "datadir", "plc/directory", "server", "verify"}),
			anyInTests: true,
		},
		"e2e/browser": {imports: []string{"web", "web/webtest", "internal/pdstest"}},
		"e2e":         {imports: []string{"internal/pdstest"}, anyInTests: true},
		"bench": {
			imports:    below(domains, format, []string{"config", "internal/pdstest", "plc/directory", "server"}),
			anyInTests: true,
		},
	}
}

// reserved are imports that only some folders may have, also in their tests.
var reserved = []struct {
	prefix string   // import paths that are it or lie below it
	below  []string // folders whose code and tests may import it
	tests  bool     // tests may import it wherever they are
	why    string
}{
	{prefix: module + "/store/sqlite", below: []string{"store", "server", "e2e", "bench"}, why: "storetest.Open gives a test its database, on any store; what is about SQLite is tested in store/sqlite"},
	{prefix: module + "/faults", below: []string{"faults", "cmd/nestbox"}, tests: true, why: "production knows nothing of faults on purpose: server.Around is the way in"},
	{prefix: "zombiezen.com/go/sqlite", below: []string{"store", "e2e", "bench"}, why: "SQL appears nowhere but in store; e2e and bench look at what a server left behind"},
	{prefix: "modernc.org/sqlite", below: []string{"store"}, why: "SQL appears nowhere but in store"},
	{prefix: "database/sql", below: []string{"store"}, why: "SQL appears nowhere but in store"},
	{prefix: "github.com/bluesky-social/indigo/atproto/auth", below: []string{"e2e"}, why: "importing it replaces golang-jwt's ES256 in the whole process"},
	{prefix: "github.com/bluesky-social/indigo/atproto/repo", tests: true, why: "foreign bytes can crash it; tests compare with it"},
	{prefix: "github.com/bluesky-social/indigo/atproto/atdata", tests: true, why: "it accepts malformed foreign bytes; tests compare with it"},
	{prefix: "github.com/bluesky-social/indigo/atproto/lexicon", tests: true, why: "records are validated by lexicon; tests compare with it"},
	{prefix: "github.com/prometheus", below: []string{"metrics"}, tests: true, why: "domains count by tallies and marks; metrics alone knows who reads them"},
	{prefix: "github.com/alecthomas/kong", below: []string{"cmd"}, why: "the command line is parsed at the edge"},
	{prefix: "testing", below: []string{"store/storetest", "internal/pdstest", "internal/smalldisk", "store/reference/referencetest", "internal/s3test", "internal/costtest", "internal/dnstest", "e2e", "bench"}, tests: true, why: "test helpers do not belong into the binary"},
}

// wiresFaults is the one file of the program that knows faults on purpose: what it builds is nil
// unless the server runs with --dev.
const wiresFaults = "cmd/nestbox/dev.go"

// impure are the packages of the standard library that reach outside of the
// process or depend on when and where it runs. net/url only parses.
var impure = []string{
	"net", "os", "io/fs", "database", "log", "syscall", "embed",
	"crypto/rand", "math/rand", "runtime",
}

// file is what the rules look at in one Go file.
type file struct {
	name      string // slash-separated, from the module's root
	test      bool
	generated bool
	imports   []string
	lines     int
	functions []function
}

type function struct {
	name   string
	line   int
	lines  int // of its body, without the braces' own lines and without tables
	isInit bool
}

// pkg is the folder of f: its import path below the module.
func (f file) pkg() string { return filepath.ToSlash(filepath.Dir(f.name)) }

func TestArchitecture(t *testing.T) {
	files, err := readModule(".")
	if err != nil {
		t.Fatal(err)
	}
	faults := check(files, arrows())
	faults = append(faults, checkRows(files, arrows())...)
	for _, fault := range faults {
		t.Error(fault)
	}
}

// TestArchitectureReports shows that each rule can fail, and accepts correct
// code beside the fault.
func TestArchitectureReports(t *testing.T) {
	imports := func(path string) string { return "package p\nimport _ \"" + path + "\"\n" }
	long := func(lines int) string { return strings.Repeat("\n", lines) }
	for _, c := range []struct {
		name, src string
		want      string // a part of the only fault; empty: none
	}{
		{"account/a.go", imports("nestbox/identity"), "account may not import identity"},
		{"account/a.go", imports("nestbox/session"), "account may not import session"},
		{"account/a.go", imports("nestbox/store/sqlite"), "account may not import store/sqlite"},
		{"account/a.go", imports("nestbox/internal/pdstest"), "account may not import internal/pdstest"},
		{"account/a.go", imports("nestbox/auth"), ""},
		{"account/a_test.go", imports("nestbox/store/sqlite"), "storetest.Open gives a test its database"},
		{"account/a_test.go", imports("nestbox/store/storetest"), ""},
		{"server/a.go", imports("nestbox/store/sqlite"), ""},
		{"server/a.go", imports("nestbox/faults"), "server may not import faults"},
		{"cmd/nestbox/a.go", imports("nestbox/faults"), "only cmd/nestbox/dev.go may import faults"},
		{"cmd/nestbox/dev.go", imports("nestbox/faults"), ""},
		{"verify/a.go", imports("nestbox/store/sqlite"), "verify may not import store/sqlite"},
		{"verify/a.go", imports("nestbox/store"), ""},
		{"identity/a.go", imports("nestbox/account"), "identity may not import account"},
		{"session/a.go", imports("nestbox/hosting"), "session may not import hosting"},
		{"session/a.go", imports("nestbox/account"), ""},
		{"signin/a.go", imports("nestbox/account"), ""},
		{"signin/a.go", imports("nestbox/session"), "signin may not import session"},
		{"signin/a.go", imports("nestbox/xrpc"), "only the files xrpc*.go of signin may import xrpc"},
		{"session/a.go", imports("nestbox/signin"), ""},
		{"hosting/a.go", imports("nestbox/signin"), ""},
		{"hosting/a.go", imports("nestbox/session"), ""},
		{"hosting/a.go", imports("nestbox/proxy"), "hosting may not import proxy"},
		{"hosting/a.go", imports("nestbox/config"), "hosting may not import config"},
		{"admin/a.go", imports("nestbox/server"), "admin may not import server"},
		{"admin/a.go", imports("nestbox/hosting"), ""},
		{"admin/a.go", imports("nestbox/xrpc"), "only the files xrpc*.go of admin may import xrpc"},
		{"repo/subject_xrpc.go", imports("nestbox/xrpc"), "only the files xrpc*.go of repo may import xrpc"},
		{"repo/xrpc_subject.go", imports("nestbox/xrpc"), ""},
		{"repo/a_test.go", imports("nestbox/xrpc"), ""},
		{"xrpc/a.go", imports("nestbox/auth"), "xrpc may not import auth"},
		{"xrpc/a_test.go", imports("nestbox/account"), "xrpc may not import account"},
		{"request/a.go", imports("nestbox/xrpc"), "request may not import xrpc"},
		{"auth/a.go", imports("nestbox/account"), "auth may not import account"},
		{"datadir/a.go", imports("nestbox/hosting"), "datadir may not import hosting"},
		{"auth/a.go", imports("nestbox/xrpc"), ""},
		{"ratelimit/a.go", imports("nestbox/session"), "ratelimit may not import session"},
		{"plc/a.go", imports("nestbox/xrpc"), "plc may not import xrpc"},
		{"plc/a.go", imports("net/http"), "plc is pure and may not import net/http"},
		{"plc/a.go", imports("os"), "plc is pure and may not import os"},
		{"plc/a.go", imports("database/sql"), "plc is pure and may not import database/sql"},
		{"plc/a.go", imports("net/url"), ""},
		{"plc/a_test.go", imports("os"), ""},
		{"store/sqlite/a.go", imports("nestbox/server"), "store/sqlite may not import server"},
		{"store/sqlite/a.go", imports("zombiezen.com/go/sqlite/sqlitex"), ""},
		{"session/a.go", imports("zombiezen.com/go/sqlite"), "SQL appears nowhere"},
		{"server/a.go", imports("database/sql"), "SQL appears nowhere"},
		{"server/a.go", imports("nestbox/cmd/nestbox"), "server may not import cmd/nestbox"},
		{"auth/a.go", imports("github.com/bluesky-social/indigo/atproto/auth"), "ES256"},
		{"auth/a.go", imports("github.com/bluesky-social/indigo/atproto/atcrypto"), ""},
		{"server/a.go", imports("testing"), "test helpers"},
		{"server/a_test.go", imports("testing"), ""},
		{"nowhere/a.go", "package p\n", "nowhere has no row"},
		{"auth/a.go", "package p\nfunc init() {}\n", "auth/a.go:2: init"},
		{"auth/a.go", "// Code generated by gen. DO NOT EDIT.\n\npackage p\nfunc init() {}\n", ""},
		{"auth/a.go", "package p\ntype t int\nfunc (t) init() {}\n", ""},
		{"auth/a.go", "package p" + long(maxFileLines+1), "auth/a.go has 601 lines"},
		{"auth/a.go", "package p" + long(maxFileLines), ""},
		{"auth/a.go", "package p\nfunc f() {\n" + long(maxFunctionLines+1) + "}\n", "auth/a.go:2: f has 81 lines"},
		{"auth/a.go", "package p\nfunc f() {\n" + long(maxFunctionLines) + "}\n", ""},
		{"auth/a_test.go", "package p\nfunc f() {\n" + long(maxFunctionLines+1) + "}\n", ""},
		{"auth/a.go", "package p\nfunc f() []int {\nreturn []int{\n" + long(maxFunctionLines) + "}\n}\n", ""},
		{"auth/a.go", "package p\nfunc f() map[int][]int {\nreturn map[int][]int{1: {\n" + long(maxFunctionLines) + "}}\n}\n", ""},
		{"auth/a.go", "package p\nfunc f() []func() {\nreturn []func(){func() {\n" + long(maxFunctionLines) + "}}\n}\n", "auth/a.go:2: f has 82 lines"},
		{"auth/a.go", "package p\nfunc f() t {\nreturn t{\n" + long(maxFunctionLines) + "}\n}\n", "auth/a.go:2: f has 82 lines"},
	} {
		f, err := parseFile(c.name, c.src)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		faults := check([]file{f}, arrows())
		switch {
		case c.want == "" && len(faults) > 0:
			t.Errorf("%s %q: reported %q, but it is right", c.name, c.src, faults)
		case c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.want)):
			t.Errorf("%s %.80q: reported %q, want one fault with %q", c.name, c.src, faults, c.want)
		}
	}

	rows := map[string]rule{"gone": {}, "auth": {imports: []string{"misspelt"}}}
	faults := checkRows([]file{{name: "auth/a.go"}}, rows)
	if len(faults) != 2 {
		t.Errorf("a row without a package and an arrow to no row: reported %q", faults)
	}
}

// check returns the rules that files violate, in the order of files.
func check(files []file, rules map[string]rule) []string {
	var faults []string
	for _, f := range files {
		row, ok := rules[f.pkg()]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s: %s has no row in arrows(): decide what it may import", f.name, f.pkg()))
			continue
		}
		faults = append(faults, checkImports(f, row)...)
		faults = append(faults, checkShape(f)...)
	}
	return faults
}

func checkImports(f file, row rule) []string {
	var faults []string
	for _, path := range f.imports {
		if own, ok := strings.CutPrefix(path, module+"/"); ok {
			if own == "xrpc" && row.domain && !f.test && !strings.HasPrefix(filepath.Base(f.name), "xrpc") {
				faults = append(faults, fmt.Sprintf("%s: only the files xrpc*.go of %s may import xrpc", f.name, f.pkg()))
			}
			allowed := own == f.pkg() || f.test && slices.Contains([]string{"internal/costtest", "internal/dnstest"}, own) || slices.Contains(row.imports, own) || f.test && row.anyInTests
			if !allowed {
				faults = append(faults, fmt.Sprintf("%s: %s may not import %s", f.name, f.pkg(), own))
				continue
			}
		}
		if isOrHolds(path)(module+"/faults") && f.pkg() == "cmd/nestbox" && !f.test && f.name != wiresFaults {
			faults = append(faults, fmt.Sprintf("%s: only %s may import faults", f.name, wiresFaults))
		}
		if row.pure && !f.test && path != "net/url" && slices.ContainsFunc(impure, isOrHolds(path)) {
			faults = append(faults, fmt.Sprintf("%s: %s is pure and may not import %s", f.name, f.pkg(), path))
			continue
		}
		for _, r := range reserved {
			if isOrHolds(path)(r.prefix) && !slices.ContainsFunc(r.below, isOrHolds(f.pkg())) && (!r.tests || !f.test) {
				faults = append(faults, fmt.Sprintf("%s: may not import %s: %s", f.name, path, r.why))
			}
		}
	}
	return faults
}

// checkShape checks sizes and init functions. Generated files are exempt, and a
// test may have a long table or story.
func checkShape(f file) []string {
	if f.generated {
		return nil
	}
	var faults []string
	if f.lines > maxFileLines {
		faults = append(faults, fmt.Sprintf("%s has %d lines, more than %d: split it by subject", f.name, f.lines, maxFileLines))
	}
	for _, fn := range f.functions {
		if fn.isInit {
			faults = append(faults, fmt.Sprintf("%s:%d: init: wire by hand in server instead", f.name, fn.line))
		}
		if fn.lines > maxFunctionLines && !f.test {
			faults = append(faults, fmt.Sprintf("%s:%d: %s has %d lines, more than %d", f.name, fn.line, fn.name, fn.lines, maxFunctionLines))
		}
	}
	return faults
}

// checkRows checks the table itself: each row has a package, each arrow leads
// to a row.
func checkRows(files []file, rules map[string]rule) []string {
	var faults []string
	for pkg, row := range rules {
		if !slices.ContainsFunc(files, func(f file) bool { return f.pkg() == pkg }) {
			faults = append(faults, fmt.Sprintf("arrows() has a row for %s, which has no Go file", pkg))
		}
		for _, target := range row.imports {
			if _, ok := rules[target]; !ok {
				faults = append(faults, fmt.Sprintf("arrows() lets %s import %s, which has no row", pkg, target))
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// isOrHolds reports whether an import path or folder is path or holds it.
func isOrHolds(path string) func(string) bool {
	return func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
}

// readModule parses every Go file of the module at root, external tests too,
// whatever its build tags. Other modules (tools) and hidden folders are not of it.
func readModule(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == root {
				return nil
			}
			_, statErr := os.Stat(filepath.Join(path, "go.mod"))
			if statErr == nil || strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata" {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read source: %w", err)
		}
		f, err := parseFile(filepath.ToSlash(path), string(src))
		if err != nil {
			return err
		}
		files = append(files, f)
		return nil
	})
	return files, err
}

func parseFile(name, src string) (file, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return file{}, fmt.Errorf("parse source: %w", err)
	}
	f := file{
		name:      name,
		test:      strings.HasSuffix(name, "_test.go"),
		generated: ast.IsGenerated(tree),
		lines:     strings.Count(src, "\n"),
	}
	for _, spec := range tree.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return file{}, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		f.imports = append(f.imports, path)
	}
	for _, decl := range tree.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		first, last := set.Position(fn.Body.Lbrace).Line, set.Position(fn.Body.Rbrace).Line
		f.functions = append(f.functions, function{
			name:   fn.Name.Name,
			line:   set.Position(fn.Pos()).Line,
			lines:  last - first - 1 - tableLines(set, fn.Body),
			isInit: fn.Recv == nil && fn.Name.Name == "init",
		})
	}
	return f, nil
}

// tableLines counts the lines within literal maps and lists that hold no function:
// a table is read row by row, however long it is, so it need not be split.
func tableLines(set *token.FileSet, body *ast.BlockStmt) int {
	lines := 0
	ast.Inspect(body, func(n ast.Node) bool {
		table, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		switch table.Type.(type) {
		case *ast.MapType, *ast.ArrayType:
		default:
			return true
		}
		holdsCode := false
		ast.Inspect(table, func(n ast.Node) bool {
			_, code := n.(*ast.FuncLit)
			holdsCode = holdsCode || code
			return !holdsCode
		})
		if holdsCode {
			return true
		}
		if between := set.Position(table.Rbrace).Line - set.Position(table.Lbrace).Line - 1; between > 0 {
			lines += between
		}
		return false
	})
	return lines
}
