package server

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/auth"
	"nestbox/backup"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/control"
	"nestbox/datadir"
	"nestbox/device"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/internal/system"
	"nestbox/lexicon"
	"nestbox/load"
	"nestbox/mail"
	"nestbox/metrics"
	"nestbox/moving"
	"nestbox/oauth"
	"nestbox/oauth/client"
	"nestbox/oauth/dpop"
	"nestbox/prefs"
	"nestbox/proxy"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/schema"
	"nestbox/session"
	"nestbox/signin"
	"nestbox/store"
	"nestbox/store/sqlite"
	"nestbox/web"
	"nestbox/xrpc"
)

// The limits of time and size of the HTTP server.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = 60 * time.Second
	answerTimeout  = 120 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 32 << 10
	stopTimeout    = 10 * time.Second
	plcTimeout     = 15 * time.Second
)

// devPLCAddr is where the embedded directory listens if that address is free.
const devPLCAddr = "127.0.0.1:2582"

// Options of a Server.
type Options struct {
	Config  config.Config
	Version string
	Log     *slog.Logger
	Now     func() time.Time
	// Fatal ends the process: the outcome of a commit is unknown.
	Fatal func(error)
	// DevMail is where development prints mail; nil for nowhere.
	DevMail io.Writer
	// Listen is false for a command that only wants the services.
	Listen bool
	// Origins are where the settings come from, Warnings the notes of config.Load: the admin
	// page shows both.
	Origins  map[string]config.Origin
	Warnings []string
	// Timeouts of the HTTP server; the zero value means DefaultTimeouts.
	Timeouts Timeouts
	// NoSafetyCopy: the database is upgraded without a copy of it being kept.
	NoSafetyCopy bool
	// Manager hears of the server's state.
	Manager system.Manager
	// Around is nil, except in development.
	Around *Around
}

// Timeouts bound how long the other end of a connection may take.
type Timeouts struct {
	Header  time.Duration // to send a request's headers
	Request time.Duration // to send a request
	Answer  time.Duration // to read the answer, from the request's headers on
	Idle    time.Duration // between two requests
}

// DefaultTimeouts returns the session contract's timeouts, as far as it names them.
func DefaultTimeouts() Timeouts {
	return Timeouts{Header: headerTimeout, Request: requestTimeout, Answer: answerTimeout, Idle: idleTimeout}
}

// Server is everything, wired. Close stops it.
type Server struct {
	opts Options
	// DataDir is absolute; URL, PLC and DID are what the server says about itself.
	DataDir, URL, PLC, DID string

	dir      datadir.Dir
	release  func() error
	listener net.Listener
	plc      *devDirectory
	db       *sqlite.DB
	stores   store.Stores
	taken    *Taken // nil unless another server's data directory was taken over

	verifier  *auth.Verifier
	sessions  *session.Service
	hosting   *hosting.Service
	signIns   *signin.Service
	identity  *identity.Service
	directory *identity.Directory
	resolver  *identity.Resolver
	keys      *hosting.Keys
	checker   *identity.Checker
	admin     *admin.Service
	prefs     *prefs.Service
	invites   *account.Invites
	proxy     *proxy.Service
	blobs     *blob.Service
	repos     *repo.Service
	schemas   *schema.Service
	firehose  *firehose.Hub
	crawler   *firehose.Crawler
	retention *firehose.Retention
	limits    *ratelimit.Limiter
	front     *request.Front
	clock     *clock
	blobFiles *disk.Files
	xrpc      *xrpc.Server
	oauth     *oauth.Service
	outbox    *mail.Outbox
	codes     *account.Codes
	notices   *account.Notices
	emails    *account.Emails

	appPasswords *account.AppPasswords
	handlers     handlers

	clients      *client.Service
	dpop         *dpop.Checker
	replaysTaken bool // from their file, so that Close saves them again

	devices      *device.Service
	site         *web.Site
	accountPages *web.AccountPages
	examiner     *admin.Examiner[[]admin.Finding]
	disks        *admin.Examiner[admin.Storage]
	load         *load.Recorder
	moving       *moving.Service
	backingUp    sync.Mutex       // held while a backup is made
	proveAfter   time.Time        // until when no backup is verified; backingUp guards it
	segments     *backup.Segments // nil unless the log is sent to PDS_BACKUP_TO
	backupState  string           // the folder of the server's own backups
	unsent       error            // why segments is nil although the settings want it
	sendFails    atomic.Bool      // the log could not be sent the last time
	// stopping ends, by endBackups, when the server begins to stop: no backup delays that.
	stopping   context.Context //nolint:containedctx // the server's own life
	endBackups context.CancelFunc

	// aside and metrics are nil without PDS_METRICS_LISTEN.
	aside    net.Listener
	metrics  *metrics.Metrics
	families *metrics.Families
	sights   sights
	health   *health
	guard    guard
}

// Open builds a server on its data directory, which it locks, and binds its
// address; it serves nothing yet. If another process serves the data directory:
// durable.ErrLocked.
func Open(ctx context.Context, opts Options) (_ *Server, err error) {
	if opts.Timeouts == (Timeouts{}) {
		opts.Timeouts = DefaultTimeouts()
	}
	s := &Server{opts: opts, DID: opts.Config.ServiceDID}
	s.stopping, s.endBackups = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, s.release, err = openDir(opts.Config.DataDirectory); err != nil {
		return nil, err
	}
	if s.taken, err = readTaken(s.dir); err != nil {
		return nil, err
	}
	if opts.Listen {
		if err := checkOldServer(ctx, s.dir, s.taken); err != nil {
			return nil, err
		}
	}
	s.DataDir = string(s.dir)
	s.load = load.NewRecorder(opts.Now, s.gauges)
	s.buildMetrics()
	if err := errors.Join(s.bind(ctx), s.openAside(ctx)); err != nil {
		return nil, err
	}
	if s.db, err = sqlite.Open(ctx, s.dir.Database(), s.databaseOptions()); err != nil {
		return nil, err
	}
	s.health = s.openHealth(ctx)
	if s.clock, err = s.openClock(ctx); err != nil {
		return nil, err
	}
	s.stores = s.db.Stores()
	if err := s.followLog(ctx); err != nil {
		return nil, err
	}
	if err := s.buildFirehose(ctx); err != nil {
		return nil, err
	}
	if err := s.build(ctx); err != nil {
		return nil, err
	}
	if s.oauth.Inherited, err = s.stores.Legacy.GrantsLeft(ctx); err != nil {
		return nil, err
	}
	if err := s.openTransfers(ctx); err != nil {
		return nil, err
	}
	if opts.Config.DevMode && opts.Config.EmbeddedPLC() && opts.Listen {
		if err := s.hosting.Repoint(ctx, s.stores.Identity); err != nil {
			opts.Log.LogAttrs(ctx, slog.LevelWarn, "accounts still point to another URL", slog.String("cause", err.Error()))
		}
	}
	return s, nil
}

// bind listens on the address, so that the server's URL is known, and starts the
// embedded directory.
func (s *Server) bind(ctx context.Context) (err error) {
	c := &s.opts.Config
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	if s.opts.Listen {
		var lc net.ListenConfig
		if s.listener, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		most, err := maxConnections()
		if err != nil {
			return err
		}
		if around := s.opts.Around; around != nil {
			s.listener = around.Listener(s.listener)
		}
		s.listener = limitConnections(s.listener, most, s.sharesPlaces, s.logCrowded(context.WithoutCancel(ctx)))
		if _, port, err = net.SplitHostPort(s.listener.Addr().String()); err != nil {
			return fmt.Errorf("listen address: %w", err)
		}
	}
	s.URL, s.PLC = c.PublicURL(port), c.PLCURL
	if c.EmbeddedPLC() {
		anyPort := !s.opts.Listen || c.Listen != "127.0.0.1:2583"
		if s.plc, err = startDirectory(ctx, s.dir.PLC(), anyPort, s.opts.Now); err != nil {
			return err
		}
		s.PLC = s.plc.url
	}
	return nil
}

// build wires the services.
func (s *Server) build(ctx context.Context) error {
	c, now, log := &s.opts.Config, s.opts.Now, s.opts.Log
	secret, err := openSecrets(ctx, s.dir, c, s.stores.Hosting, now)
	if err != nil {
		return err
	}
	box, keyring := secret.box, secret.keyring
	if err := s.openDPoP(ctx, box); err != nil {
		return err
	}
	var limits *ratelimit.Limiter
	if c.RateLimitsEnabled {
		limits = ratelimit.New(ratelimit.DefaultMaxBuckets, now)
	}
	accounts := s.stores.Accounts
	hasher := account.NewHasher(min(runtime.GOMAXPROCS(0), 4))
	s.buildIdentity(limits)
	if err := errors.Join(s.buildBlobs(limits), s.buildMail(box)); err != nil {
		return err
	}
	s.appPasswords = &account.AppPasswords{Store: accounts, Notices: s.notices, Now: now}
	s.emails = &account.Emails{Store: accounts, Codes: s.codes, Hasher: hasher, Notices: s.notices, Limits: limits, Now: now}
	s.buildRepos(box, limits)
	if err := s.buildSchemas(limits); err != nil {
		return err
	}
	s.invites = &account.Invites{
		Store: accounts, Required: c.InviteRequired, Interval: time.Duration(c.InviteIntervalMS) * time.Millisecond,
		Epoch: time.UnixMilli(c.InviteEpochMS), Hostname: c.Hostname, Now: now,
	}
	s.prefs = &prefs.Service{Store: s.stores.Prefs, Lexicons: lexicon.Known(), Now: now}
	signIns, err := s.buildSignIns(box, hasher, limits)
	if err != nil {
		return err
	}
	s.sessions = &session.Service{
		Settings: session.Settings{
			Rules:     session.Rules{ReuseWindow: c.SessionReuseWindow, RefreshTTL: c.RefreshTokenTTL, Policy: session.Policy(c.SessionReusePolicy)},
			AccessTTL: c.AccessTokenTTL, Limit: c.SessionLimit, Audience: s.DID, OAuth: s.grantRules(),
		},
		Store: s.stores.Sessions, Accounts: accounts, Keyring: keyring, SignIns: signIns, Notices: s.notices,
		Noted: ratelimit.New(notedSessions, now), Calls: make(chan int64, queuedCalls), Now: now, Doubt: s.clock.Check, Log: log,
	}
	s.hosting = &hosting.Service{
		Settings: hosting.Settings{
			DID: s.DID, URL: s.URL, Hostname: c.Hostname, Domains: c.HandleDomains, InviteRequired: c.InviteRequired,
			MigrationOnly: c.Signup == config.SignupMigrationOnly, Closed: c.Signup == config.SignupClosed,
			SignupsPerHour: int(c.SignupsPerHour), RelayLimit: c.RelayAccountLimit, DeleteGrace: deleteGrace(c.DevMode),
			RecoveryKey: c.RecoveryDIDKey, RotationKey: secret.rotation, PrivacyPolicyURL: c.PrivacyPolicyURL,
			TermsOfServiceURL: c.TermsOfServiceURL, ContactEmail: c.ContactEmail, BlobUploadLimit: c.BlobUploadLimit,
		},
		Store: s.stores.Hosting, Handles: s.stores.Handles, SigningKeys: s.stores.SigningKeys, Documents: s.stores.Identity,
		Blobs: s.stores.Blobs, Prefs: s.stores.Prefs, Accounts: accounts, Notices: s.notices, Hasher: hasher, Codes: s.codes,
		Directory: s.directory, Resolver: s.resolver, Keys: s.keys, Sessions: s.sessions, SignIns: signIns, Repos: s.repos,
		Box: box, Limits: limits, Now: now, Held: s.held, Doubt: s.clock.Check, Log: log,
	}
	s.sessions.Document = s.hosting.ShownDocument
	s.examiner = admin.NewExaminer(s.diagnose, diagnosisLife, now)
	s.admin = &admin.Service{
		Store: s.stores.Admin, Entries: s.stores.Entries, Views: s.stores.Views, Blobs: s.stores.Blobs, Accounts: accounts,
		Hasher: hasher, Codes: s.codes, Hosting: s.hosting, Sessions: s.sessions, SignIns: signIns, Keyring: keyring, Repos: s.repos,
		Firehose: s.firehose, Held: s.held, Crawler: s.crawler, Notices: s.notices, Emails: s.emails, Outbox: s.outbox, Now: now,
		RotationConfigured: c.PLCRotationKey.IsSet(), Doctor: s.diagnose, Examiner: s.examiner, Health: s.healthLine, LogSize: s.db.LogSize,
		TestMail: func(ctx context.Context, to string) (admin.MailTested, error) { return TestMail(ctx, c, now(), to) },
	}
	s.verifier = &auth.Verifier{
		Keyring: keyring, Audience: s.DID, HostDID: "did:web:" + c.Hostname, Sessions: s.sessions, AdminPassword: secret.admin,
		Issuers: issuers{s.resolver.ForTokens()}, ModService: syntax.DID(c.ModServiceDID), Limits: limits, Now: now,
	}
	s.buildResource()
	s.buildProxy(limits)
	s.buildClients(limits)
	s.buildOAuth(box, limits)
	s.limits = limits
	s.buildMoving()
	if err := s.buildPeople(box); err != nil { //nolint:contextcheck // requests bring theirs
		return err
	}
	s.front = s.newFront()
	s.xrpc = &xrpc.Server{Methods: s.methods(), MaxBody: xrpc.DefaultMaxBody, Admit: s.admit, Pass: s.proxy.Call}
	return nil
}

// deleteGrace returns how long a deactivated account is kept before it is deleted,
// so that its owner can read the notice. In development it is zero.
func deleteGrace(dev bool) time.Duration {
	if dev {
		return 0
	}
	return 7 * 24 * time.Hour
}

// notedSessions bounds how many refused refreshes we remember having recorded.
const notedSessions = 20_000

// everything limits all requests from one network, also to routes that do not
// exist, except endpoints with a limit of their own.
var everything = ratelimit.Limit{Name: "all", Points: 3000, Window: 5 * time.Minute}

// admit counts a request against everything.
func (s *Server) admit(ctx context.Context, _ *http.Request) error {
	return request.AdmitNetwork(ctx, s.limits, 1, everything)
}

// takeBack undoes admit, for a request that no limit of its network may hold up.
func (s *Server) takeBack(ctx context.Context) {
	if client := request.ClientOf(ctx); s.limits != nil && !client.Unlimited {
		s.limits.GiveBackKeys(client.Network().Keys(""), 1, everything)
	}
}

// unlimited reports whether the operator exempted a client from rate limits.
func (s *Server) unlimited(r *http.Request, c request.Client) bool {
	for _, p := range s.opts.Config.RateLimitBypassIPs {
		if p.Contains(c.Addr) {
			return true
		}
	}
	key := s.opts.Config.RateLimitBypassKey
	return key.IsSet() && subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Ratelimit-Bypass")), []byte(key.Reveal())) == 1
}

// commands returns the operator's commands.
func (s *Server) commands() control.Commands {
	files := s.admin.FileCommands()
	files[BackupCommand], files[ExportCommand] = s.backUp, s.exportAccount
	return s.withAround(control.Commands{Plain: s.admin.Commands(), Files: files})
}

// Run runs a command in this process.
func (s *Server) Run(ctx context.Context, name string, args, result any) error {
	s.askFirst(ctx)
	return s.commands().Run(ctx, name, args, result)
}

// RunFile runs a command with a file in this process.
func (s *Server) RunFile(ctx context.Context, name string, args any, in io.Reader, out io.Writer) error {
	s.askFirst(ctx)
	return s.commands().RunFile(ctx, name, args, in, out)
}

// Serve runs the server until ctx ends, then stops it in order. It writes a line to
// ready once it answers requests.
func (s *Server) Serve(ctx context.Context, ready io.Writer) error {
	if err := s.opts.Config.Remember(); err != nil {
		return fmt.Errorf("remember settings: %w", err)
	}
	handler, err := s.around(s.noticeProxy(s.handler()))
	if err != nil {
		return err
	}
	socket, err := control.Listen(ctx, s.DataDir)
	if err != nil {
		return err
	}
	if s.guards() {
		s.noteNumbers(ctx) // before anything is written
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	for _, run := range []func(context.Context){
		s.clock.run, s.backfill, s.sessions.Collect, s.devices.Collect, s.hosting.Run, s.checker.Run,
		s.blobs.Run, s.retention.Run, s.crawler.Run, s.announceAccounts,
		s.repos.Sweep, s.outbox.Run, s.clients.Run, s.schemas.Run,
		s.oauth.Collect, s.sessions.WriteCalls, s.examiner.Run, s.load.Run, s.disks.Run, s.watchDisks,
		s.moving.Run, s.moving.RunJobs, s.runBackups, s.guardNumbers, s.sendLog,
		s.health.watchWrites, s.health.watchSpace, s.watchMetrics, s.watchdog, s.dropCopies,
	} {
		workers.Go(func() { run(background) })
	}
	public := s.httpServer(handler)
	private := s.httpServer(s.commandsHandler())
	servers := map[net.Listener]*http.Server{s.listener: public, socket: private}
	if s.aside != nil {
		servers[s.aside] = s.asideServer()
	}
	failed := make(chan error, len(servers))
	for l, srv := range servers {
		workers.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve: %w", err)
			}
		})
	}
	if err = s.announce(ready); err == nil {
		s.tell(ctx, "READY=1")
		select {
		case <-ctx.Done():
			err = s.linger(ctx, failed)
		case err = <-failed:
		}
	}
	s.health.stopping.Store(true)
	s.endBackups()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var closing sync.WaitGroup
	closing.Go(s.firehose.Close) // Shutdown knows nothing of websockets
	for _, srv := range []*http.Server{private, public} {
		closing.Go(func() {
			if srv.Shutdown(drain) != nil {
				_ = srv.Close() // what still runs is cut off
			}
		})
	}
	closing.Wait()
	stop()
	s.settle(drain)
	if s.aside != nil { // last: it says until then that the server stops
		_ = servers[s.aside].Close()
	}
	workers.Wait()
	return err
}

// linger goes on answering for PDS_STOP_DELAY after /readyz began to announce the stop, so that a
// load balancer can notice it.
func (s *Server) linger(ctx context.Context, failed <-chan error) error {
	ctx = context.WithoutCancel(ctx)
	s.health.stopping.Store(true)
	s.tell(ctx, "STOPPING=1")
	select {
	case <-time.After(s.opts.Config.StopDelay):
		return nil
	case err := <-failed:
		return err
	}
}

// commandsHandler returns the handler of the control socket, whose commands are counted too.
func (s *Server) commandsHandler() http.Handler {
	var ended func(request.Mark)
	if s.metrics != nil {
		ended = s.metrics.Command
	}
	return request.Marking(s.commands().Handler(), s.opts.Log, ended)
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	limit := s.opts.Timeouts
	return &http.Server{
		Handler: s.handlers.of(h), ReadHeaderTimeout: limit.Header, ReadTimeout: limit.Request, WriteTimeout: limit.Answer,
		IdleTimeout: limit.Idle, MaxHeaderBytes: maxHeaderBytes, ErrorLog: s.httpLog(),
	}
}

// announce prints the one line of standard output.
func (s *Server) announce(w io.Writer) error {
	line, err := json.Marshal(struct {
		URL     string `json:"url"`
		Listen  string `json:"listen"`
		PLC     string `json:"plc"`
		DID     string `json:"did"`
		Data    string `json:"data"`
		PID     int    `json:"pid"`
		Version string `json:"version"`
		Metrics string `json:"metrics,omitzero"`
	}{s.URL, s.listener.Addr().String(), s.PLC, s.DID, s.DataDir, os.Getpid(), s.opts.Version, s.asideAddr()})
	if err != nil {
		return fmt.Errorf("encode READY line: %w", err)
	}
	_, err = fmt.Fprintf(w, "READY %s\n", line)
	return err
}

// Close stops what Open started. It may be called on a half-opened server.
func (s *Server) Close() error {
	s.endBackups()
	var errs []error
	if s.listener != nil {
		if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.aside != nil {
		_ = s.aside.Close() // Serve has closed it, if it ran
	}
	if s.schemas != nil {
		s.schemas.Close()
	}
	if s.resolver != nil {
		s.resolver.Close()
	}
	if s.directory != nil {
		s.directory.Close()
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
	if s.clients != nil {
		s.clients.Close()
	}
	s.closeDPoP()
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.plc != nil {
		errs = append(errs, s.plc.close())
	}
	if s.blobFiles != nil {
		errs = append(errs, s.blobFiles.Close())
	}
	if s.release != nil {
		errs = append(errs, s.release())
	}
	return errors.Join(errs...)
}
