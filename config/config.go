// Package config reads the server's settings: PDS_* environment variables as
// the reference PDS has them, from flags, the environment and an environment
// file, in this order of precedence. The comments of Config are the manual:
// docs/settings.md is made of them (go generate ./config).
//
// Invariants: every fault is reported, all at once, with the setting's name and
// what would be right; a secret is never printed.
package config

//go:generate go run ./internal/manual -source config.go -manual ../docs/settings.md

import (
	"cmp"
	"net/netip"
	"time"
)

// Config is everything that can be set. The env tag names the setting, default is
// its value if it is not set, dev its value then under --dev, group its place in
// the manual.
type Config struct {
	// Development: loopback, plain http, `.test` handles, open sign-up, an embedded PLC directory. The same as `--dev`.
	DevMode bool `env:"PDS_DEV_MODE" default:"false" group:"development"`
	// The server's public host name. Required outside development.
	Hostname string `env:"PDS_HOSTNAME" dev:"localhost" group:"server"`
	// TCP port to listen on.
	Port int `env:"PDS_PORT" default:"2583" group:"server"`
	// Address to listen on, `host:port`; port 0 picks a free one. Overrides `PDS_PORT`; `--listen` overrides both.
	// Default: `PDS_PORT` on all interfaces, under `--dev` on 127.0.0.1.
	Listen string `env:"PDS_LISTEN" group:"server"`
	// The server's own DID. It is the `aud` of every session token, so a change signs everybody out. Default: `did:web:` and the host name.
	ServiceDID string `env:"PDS_SERVICE_DID" group:"identity"`
	// Folder of the database, the keys and, by default, the blobs. `--data` overrides it.
	DataDirectory string `env:"PDS_DATA_DIRECTORY" default:"data" group:"server"`
	// URL of the PLC directory. Under `--dev` the server runs its own unless this is set.
	PLCURL string `env:"PDS_DID_PLC_URL" default:"https://plc.directory" dev:"embedded" group:"identity"`
	// Domains under which people get handles, each with a leading dot, separated by commas. Default: a dot and the host name.
	HandleDomains []string `env:"PDS_SERVICE_HANDLE_DOMAINS" dev:".test" group:"identity"`
	// Name servers, by address or name, for TXT records of handles that the system's name server does not find.
	HandleBackupNameservers []string `env:"PDS_HANDLE_BACKUP_NAMESERVERS" group:"identity"`
	// Whether sign-up requires an invite code.
	InviteRequired bool `env:"PDS_INVITE_REQUIRED" default:"true" dev:"false" group:"accounts"`
	// Who can create an account. `open`: anybody. `invite`: anybody with an invite code. `migration-only`: people
	// who move in from another server (with a code if `PDS_INVITE_REQUIRED=true`). `closed`: only the operator, by
	// `nestbox account create`. Default: `invite` or `open`, as `PDS_INVITE_REQUIRED` is set.
	Signup string `env:"PDS_SIGNUP" group:"accounts"`
	// Limit of new accounts in an hour, not counting those with an invite code and those that move in; `0` is no limit.
	SignupsPerHour int64 `env:"PDS_SIGNUPS_PER_HOUR" default:"100" group:"limits"`
	// How many accounts of this server relays accept: 100 unless you agreed with them on more. The log warns when
	// the server nears it; `0` turns the warning off.
	RelayAccountLimit int64 `env:"PDS_RELAY_ACCOUNT_LIMIT" default:"100" dev:"0" group:"limits"`
	// If invite codes are required: the age, in milliseconds, at which an account earns a code, and after that one
	// more for each such period, at most five unused at a time. With `0` accounts earn no codes.
	InviteIntervalMS int64 `env:"PDS_INVITE_INTERVAL" default:"0" group:"accounts"`
	// Start of the period that counts for `PDS_INVITE_INTERVAL`, in Unix milliseconds.
	InviteEpochMS int64 `env:"PDS_INVITE_EPOCH" default:"0" group:"accounts"`
	// Password of the user `admin` in HTTP Basic authentication. Default: the server generates one in the data directory.
	AdminPassword Secret `env:"PDS_ADMIN_PASSWORD" dev:"admin" group:"server"`
	// DID of the moderation service. Its service tokens are accepted in place of the admin's password for looking at
	// and taking down accounts, records and blobs.
	ModServiceDID string `env:"PDS_MOD_SERVICE_DID" group:"services"`
	// URL of the service that receives the reports of this server's accounts; set it together with
	// `PDS_REPORT_SERVICE_DID`. Default: `PDS_MOD_SERVICE_URL`. If neither is set, nobody can report.
	ReportServiceURL string `env:"PDS_REPORT_SERVICE_URL" group:"services"`
	// DID of the service that receives reports.
	ReportServiceDID string `env:"PDS_REPORT_SERVICE_DID" group:"services"`
	// URL of the moderation service, for reports; set it together with `PDS_MOD_SERVICE_DID`.
	ModServiceURL string `env:"PDS_MOD_SERVICE_URL" group:"services"`
	// DID of the account that publishes all Lexicons, whatever DNS says: for networks of their own. Default: each
	// Lexicon's author, by DNS.
	LexiconAuthorityDID string `env:"PDS_LEXICON_AUTHORITY_DID" group:"services"`
	// URL of the AppView, the service that answers what apps show of the network: `https://api.bsky.app` is
	// Bluesky's. Set it together with `PDS_BSKY_APP_VIEW_DID`. Without it apps can sign in and write, and show only
	// what they ask of services that they name themselves.
	AppViewURL string `env:"PDS_BSKY_APP_VIEW_URL" group:"services"`
	// DID of the AppView: `did:web:api.bsky.app` is Bluesky's.
	AppViewDID string `env:"PDS_BSKY_APP_VIEW_DID" group:"services"`
	// Pattern of the URLs of pictures in posts that the AppView has not seen yet, with three `%s`: the preset, the
	// DID and the CID. `https://cdn.bsky.app/img/%s/plain/%s/%s@jpeg` is Bluesky's. Default: this server's own
	// `getBlob`.
	AppViewCDN string `env:"PDS_BSKY_APP_VIEW_CDN_URL_PATTERN" group:"services"`
	// How long a service may take to begin its answer to a call that is passed on, in milliseconds.
	ProxyHeadersTimeoutMS int64 `env:"PDS_PROXY_HEADERS_TIMEOUT" default:"10000" group:"services"`
	// How long a service may pause in its answer, in milliseconds.
	ProxyBodyTimeoutMS int64 `env:"PDS_PROXY_BODY_TIMEOUT" default:"30000" group:"services"`
	// Size limit of an answer that is passed on, in bytes.
	ProxyMaxResponseSize int64 `env:"PDS_PROXY_MAX_RESPONSE_SIZE" default:"10485760" group:"services"`
	// Whether services may be called over HTTP/2.
	ProxyAllowHTTP2 bool `env:"PDS_PROXY_ALLOW_HTTP2" default:"false" group:"services"`
	// Secret that signs session tokens (HMAC-SHA256 over its bytes), the first key of the keyring; at least 32 bytes
	// outside development. Default: the server generates a key in the data directory.
	JWTSecret Secret `env:"PDS_JWT_SECRET" group:"accounts"`
	// Secret of the nonces in OAuth clients' proofs (DPoP), 64 hexadecimal digits; servers behind one host name share
	// it. Default: derived from the key in `key_encryption_key`.
	DPoPSecret Secret `env:"PDS_DPOP_SECRET" group:"oauth"`
	// Apps that people can trust like this server itself, by their OAuth `client_id`, separated by commas: the consent
	// page shows their name and logo, and does not ask again for what was allowed before.
	OAuthTrustedClients []string `env:"PDS_OAUTH_TRUSTED_CLIENTS" group:"oauth"`
	// Lifetime of an OAuth client's access token, 5m to 29m: the specification says under 30 minutes.
	OAuthAccessTokenTTL time.Duration `env:"PDS_OAUTH_ACCESS_TOKEN_TTL" default:"25m" group:"oauth"`
	// Lifetime of an OAuth client's refresh token: how long its unused session lasts. At most 180d, and no less than
	// `PDS_OAUTH_PUBLIC_SESSION_TTL`.
	OAuthRefreshTokenTTL time.Duration `env:"PDS_OAUTH_REFRESH_TOKEN_TTL" default:"90d" group:"oauth"`
	// How long an OAuth session lasts, however it is used, if its client has no key of its own (a public client): at
	// most 14d, the specification's limit.
	OAuthPublicSessionTTL time.Duration `env:"PDS_OAUTH_PUBLIC_SESSION_TTL" default:"14d" group:"oauth"`
	// The same for other clients, confidential or trusted.
	OAuthSessionTTL time.Duration `env:"PDS_OAUTH_SESSION_TTL" default:"730d" group:"oauth"`
	// Private key, 64 hexadecimal digits, that signs the PLC operations of all accounts. Default: the server
	// generates one in the data directory.
	PLCRotationKey Secret `env:"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX" group:"identity"`
	// File with the key, 64 hexadecimal digits, that encrypts the private keys in the database: it can lie outside
	// the data directory. `nestbox keys reseal --to` creates it. Default: `key_encryption_key` in the data
	// directory, generated at the first start.
	KeyEncryptionKeyFile string `env:"PDS_KEY_ENCRYPTION_KEY_FILE" group:"identity"`
	// A `did:key` that is put ahead of the server's own key among the rotation keys of new accounts.
	RecoveryDIDKey string `env:"PDS_RECOVERY_DID_KEY" group:"identity"`

	// Mail server, `smtps://user:password@host:port`, or `smtp://` for STARTTLS; special characters of user and
	// password percent-encoded. With `none` the server sends no mail, so nobody can reset a password. Required
	// outside development; under `--dev` mail is printed.
	SMTPURL Secret `env:"PDS_EMAIL_SMTP_URL" group:"mail"`
	// Sender of the server's mail, with or without a name: `Example <pds@example.com>`. Required outside development if mail is sent.
	EmailFrom string `env:"PDS_EMAIL_FROM_ADDRESS" group:"mail"`
	// File with certificates (PEM) of authorities that may have issued the mail server's certificate, in addition to the system's.
	SMTPCAFile string `env:"PDS_EMAIL_SMTP_CA_FILE" group:"mail"`

	// Lifetime of an access token, at least 20m outside development: one SDK refreshes on every call in the last 15 minutes.
	AccessTokenTTL time.Duration `env:"PDS_ACCESS_TOKEN_TTL" default:"2h" group:"accounts"`
	// Lifetime of a refresh token: how long an unused session lasts.
	RefreshTokenTTL time.Duration `env:"PDS_REFRESH_TOKEN_TTL" default:"90d" group:"accounts"`
	// How long a refresh token still works after its successor was used. The newest token and its predecessor always work.
	SessionReuseWindow time.Duration `env:"PDS_SESSION_REUSE_WINDOW" default:"24h" group:"accounts"`
	// What happens when a refresh token is used after the reuse window. `report`: it is refused and recorded.
	// `revoke`: its session ends as well.
	SessionReusePolicy string `env:"PDS_SESSION_REUSE_POLICY" default:"report" group:"accounts"`
	// Limit of sessions of one account; those unused for longest end first.
	SessionLimit int `env:"PDS_SESSION_LIMIT" default:"200" group:"accounts"`

	// Whether requests, sign-ups and sign-ins are limited by client network and by account.
	RateLimitsEnabled bool `env:"PDS_RATE_LIMITS_ENABLED" default:"true" dev:"false" group:"limits"`
	// Requests with this value in the header `x-ratelimit-bypass` are exempt from limits.
	RateLimitBypassKey Secret `env:"PDS_RATE_LIMIT_BYPASS_KEY" group:"limits"`
	// Addresses or networks that are exempt from limits, separated by commas.
	RateLimitBypassIPs []netip.Prefix `env:"PDS_RATE_LIMIT_BYPASS_IPS" group:"limits"`
	// Addresses or networks of reverse proxies whose `X-Forwarded-For` and `X-Request-Id` the server believes, separated by
	// commas.
	TrustedProxies []netip.Prefix `env:"PDS_TRUSTED_PROXIES" group:"server"`

	// Contact address, in the footer of pages and shown by `describeServer`.
	ContactEmail string `env:"PDS_CONTACT_EMAIL_ADDRESS" group:"server"`
	// URL of the privacy policy, on pages and shown by `describeServer`.
	PrivacyPolicyURL string `env:"PDS_PRIVACY_POLICY_URL" group:"server"`
	// URL of the terms of service, on pages and shown by `describeServer`.
	TermsOfServiceURL string `env:"PDS_TERMS_OF_SERVICE_URL" group:"server"`
	// Name of the service on its pages, in its mails, authenticator apps and passkeys. Default: the host name.
	ServiceName string `env:"PDS_SERVICE_NAME" group:"pages"`
	// URL of the page about this server, in the footer of pages.
	HomeURL string `env:"PDS_HOME_URL" group:"pages"`
	// URL where people get help, in the footer of pages and beside the sign-in.
	SupportURL string `env:"PDS_SUPPORT_URL" group:"pages"`
	// URL of a picture for the header of pages. Browsers load it from there, so its host sees them.
	LogoURL string `env:"PDS_LOGO_URL" group:"pages"`
	// URL of a picture behind the sign-in pages, in light mode.
	BackgroundLightURL string `env:"PDS_BACKGROUND_LIGHT_URL" group:"pages"`
	// The same in dark mode.
	BackgroundDarkURL string `env:"PDS_BACKGROUND_DARK_URL" group:"pages"`
	// Colour of buttons and links: `#rrggbb`, `rgb(31, 107, 88)` or `hsl(165, 55%, 27%)`. Text on it is black or
	// white, whichever can be read better; where it is text itself, it is darkened or lightened until it can be read.
	PrimaryColor string `env:"PDS_PRIMARY_COLOR" group:"pages"`
	// Colour of errors, and of buttons that delete.
	ErrorColor string `env:"PDS_ERROR_COLOR" group:"pages"`
	// Colour of warnings.
	WarningColor string `env:"PDS_WARNING_COLOR" group:"pages"`
	// Colour of notes.
	InfoColor string `env:"PDS_INFO_COLOR" group:"pages"`
	// Colour of what went well.
	SuccessColor string `env:"PDS_SUCCESS_COLOR" group:"pages"`
	// Site key of hCaptcha, which people who sign up on this server's page then have to solve. Apps that create
	// accounts have no field for it, so they keep to the limits alone. Set it together with the secret key.
	HCaptchaSiteKey string `env:"PDS_HCAPTCHA_SITE_KEY" group:"pages"`
	// Secret key of hCaptcha.
	HCaptchaSecretKey Secret `env:"PDS_HCAPTCHA_SECRET_KEY" group:"pages"`
	// Salt of the hashes of network address, handle and browser that hCaptcha gets of each sign-up, by which its
	// Enterprise plan recognises one who signs up again and again. Without it hCaptcha gets no such hashes.
	HCaptchaTokenSalt Secret `env:"PDS_HCAPTCHA_TOKEN_SALT" group:"pages"`
	// Where Prometheus finds `/metrics`, and profilers `/debug/pprof/`; also `/livez` and `/readyz`. An address like
	// `127.0.0.1:2584`, or the full path of a Unix socket. Default: nowhere.
	MetricsListen string `env:"PDS_METRICS_LISTEN" group:"server"`
	// Token that `PDS_METRICS_LISTEN` asks for (`Authorization: Bearer`), except on loopback and on a Unix socket.
	// Required if that address is not on loopback.
	MetricsToken Secret `env:"PDS_METRICS_TOKEN" group:"server"`
	// How long the server goes on answering after the signal to stop, while `/readyz` announces it: as long as the load
	// balancer in front takes to notice.
	StopDelay time.Duration `env:"PDS_STOP_DELAY" default:"0s" group:"server"`
	// Free space, in bytes, below which `/readyz` and `nestbox health --ready` say that the server is not ready. If this
	// is the default, a small disk has 2 % of its size as its floor.
	DiskFloor int64 `env:"PDS_DISK_FLOOR" default:"536870912" group:"server"`
	// Whether there is an admin page, at `/admin/`. It asks for the password of `PDS_ADMIN_PASSWORD`, or for an account
	// that `nestbox admin add` has let in.
	AdminPages bool `env:"PDS_ADMIN_PAGES" default:"true" group:"server"`
	// Addresses or networks that reach the admin page, separated by commas; for all others it does not exist. Default: all.
	AdminNetworks []netip.Prefix `env:"PDS_ADMIN_NETWORKS" group:"server"`
	// Whether accounts may import repositories (`importRepo`).
	AcceptingImports bool `env:"PDS_ACCEPTING_REPO_IMPORTS" default:"true" group:"accounts"`
	// Size limit of a repository that is imported, in bytes. During the import its file takes as much space in the data directory.
	MaxImportSize int64 `env:"PDS_MAX_REPO_IMPORT_SIZE" default:"2147483648" group:"limits"`
	// Size limit of an upload, in bytes. The default fits a video of the official app; a proxy in front must allow as much.
	BlobUploadLimit int64 `env:"PDS_BLOB_UPLOAD_LIMIT" default:"314572800" group:"blobs"`
	// Limit of all blobs of one account together, in bytes; `0` is no limit.
	BlobQuota int64 `env:"PDS_BLOB_QUOTA" default:"0" group:"blobs"`
	// Folder of blobs. Default: `blobs` in the data directory.
	BlobDiskLocation string `env:"PDS_BLOBSTORE_DISK_LOCATION" group:"blobs"`
	// Folder of unfinished uploads, on the same file system as the blobs. Default: `tmp` in the folder of blobs.
	BlobDiskTmpLocation string `env:"PDS_BLOBSTORE_DISK_TMP_LOCATION" group:"blobs"`

	// Where the server backs itself up: a folder on another disk, or `s3://bucket/prefix`. Default: nowhere; see
	// `nestbox backup`.
	BackupTo string `env:"PDS_BACKUP_TO" group:"backup"`
	// How often it makes a snapshot of everything.
	BackupEvery time.Duration `env:"PDS_BACKUP_SNAPSHOT_EVERY" default:"24h" group:"backup"`
	// How often what was written since is sent there, so that at most so much is lost, and every time can be restored.
	// `0`: never.
	BackupLogEvery time.Duration `env:"PDS_BACKUP_LOG_EVERY" default:"10s" group:"backup"`
	// Public keys of age, `age1…`, separated by commas, to which backups are encrypted. Required for a bucket. Keep
	// the identity elsewhere: without it they cannot be restored.
	BackupRecipients []string `env:"PDS_BACKUP_RECIPIENT" group:"backup"`
	// Which snapshots are kept, the newest one of each of so many days, weeks and months:
	// `daily=7,weekly=4,monthly=6`. Default: all.
	BackupKeep string `env:"PDS_BACKUP_KEEP" group:"backup"`
	// Store of backups, as in `PDS_BACKUP_TO`, whose newest snapshot is restored at the start if the data directory
	// is empty. So a lost machine is one command. It has no effect on a data directory that has a database.
	RestoreFrom string `env:"PDS_RESTORE_FROM" group:"backup"`
	// File with the identity of age that opens the backups of `PDS_RESTORE_FROM`.
	RestoreIdentity string `env:"PDS_RESTORE_IDENTITY_FILE" group:"backup"`
	// What happens when a relay has seen events that this server does not have, because it was restored from a backup
	// and not moved on. `warn`: it is logged each hour. `stop`: changes are also refused, until `nestbox firehose jump`.
	FirehoseGuard string `env:"PDS_FIREHOSE_GUARD" default:"warn" group:"event stream"`
	// Region of the bucket of backups.
	BackupS3Region string `env:"PDS_BACKUP_S3_REGION" group:"backup"`
	// URL of the S3 server of backups. Default: Amazon's.
	BackupS3Endpoint string `env:"PDS_BACKUP_S3_ENDPOINT" group:"backup"`
	// Whether the bucket is named in the path of a URL, not in its host, as some servers want it.
	BackupS3PathStyle bool `env:"PDS_BACKUP_S3_FORCE_PATH_STYLE" default:"false" group:"backup"`
	// Access key for the bucket of backups.
	BackupS3AccessKey string `env:"PDS_BACKUP_S3_ACCESS_KEY_ID" group:"backup"`
	// Secret key for the bucket of backups.
	BackupS3SecretKey Secret `env:"PDS_BACKUP_S3_SECRET_ACCESS_KEY" group:"backup"`

	// URLs of relays, separated by commas. The server asks them to crawl it when there are new events, at most every
	// 20 minutes. Not in development.
	Crawlers []string `env:"PDS_CRAWLERS" group:"event stream"`
	// How long events are kept so that subscribers can catch up, in milliseconds.
	RepoBackfillLimitMS int64 `env:"PDS_REPO_BACKFILL_LIMIT_MS" default:"86400000" group:"event stream"`
	// Limit of the events that are kept, in bytes, whatever their age.
	FirehoseMaxBytes int64 `env:"PDS_FIREHOSE_MAX_BYTES" default:"1073741824" group:"event stream"`

	// Lowest level that is logged: `debug`, `info` (one line per request), `warn` or `error`.
	LogLevel string `env:"PDS_LOG_LEVEL" default:"info" group:"server"`
	// File for the log. It is opened again on SIGHUP, so that logrotate can move it. Default: standard error.
	LogDestination string `env:"PDS_LOG_DESTINATION" group:"server"`
	// Size of that file, in bytes, at which it becomes `.1` and a new one begins; `0` for never.
	LogMaxSize int64 `env:"PDS_LOG_MAX_SIZE" default:"104857600" group:"server"`
	// How many such files are kept.
	LogKeep int `env:"PDS_LOG_KEEP" default:"5" group:"server"`
	// What the log has of a client's address. `full`: all of it. `network`: its network, a /24 or an IPv6 /48. `none`:
	// nothing.
	LogClient string `env:"PDS_LOG_CLIENT" default:"full" group:"server"`
	// Share of the requests with a status below 500 that get a line in the log, from `0` to `1`. Sign-ins, refreshes and
	// what admins do are always logged.
	LogSample float64 `env:"PDS_LOG_SAMPLE" default:"1" group:"server"`
	// Form of the log: `json` or `text`.
	LogFormat string `env:"PDS_LOG_FORMAT" default:"json" dev:"text" group:"server"`
}

// Service returns the name of the service as people see it.
func (c *Config) Service() string { return cmp.Or(c.ServiceName, c.Hostname) }

// EmbeddedPLC reports whether the server runs the development directory.
func (c *Config) EmbeddedPLC() bool { return c.PLCURL == embedded }

// DefaultDiskFloor is the default of DiskFloor.
const DefaultDiskFloor = 512 << 20

const embedded = "embedded"

// PublicURL returns the URL under which clients reach the server that listens on
// port.
func (c *Config) PublicURL(port string) string {
	if c.DevMode {
		return "http://localhost:" + port
	}
	return "https://" + c.Hostname
}

// Flags are the command line's settings; an empty one was not given.
type Flags struct {
	Listen  string
	Data    string
	EnvFile string
	Dev     bool
	// Command means that the settings are for a command on the data directory, not for
	// serving. Settings that its last server had and the command lacks are taken from
	// there, and mail is not needed.
	Command bool
	// Mail means that the command is about mail, whose settings are checked if they are
	// given.
	Mail bool
	// Inherits means that the secrets are those of a server that is, or was, taken over. Load
	// finds out by itself.
	Inherits bool
}
