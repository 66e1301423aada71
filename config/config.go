// Package config reads the server's settings: PDS_* environment variables as
// the reference PDS has them, from flags, the environment and an environment
// file, in this order of precedence. The comments of Config are the manual: the
// table in the README is made of them (go generate ./config).
//
// Invariants: every fault is reported, all at once, with the setting's name and
// what would be right; a secret never prints.
package config

//go:generate go run ./internal/manual -source config.go -readme ../README.md

import (
	"net/netip"
	"time"
)

// Config is everything that can be set. The env tag names the setting, default
// is what holds when it is not set, dev what holds then under --dev.
type Config struct {
	// Development: loopback, plain http, `.test` handles, open sign-up, an embedded PLC directory. The same as `--dev`.
	DevMode bool `env:"PDS_DEV_MODE" default:"false"`
	// The server's public host name. Required outside development.
	Hostname string `env:"PDS_HOSTNAME" dev:"localhost"`
	// TCP port to listen on.
	Port int `env:"PDS_PORT" default:"2583"`
	// Address to listen on, `host:port`; port 0 picks a free one. It goes before `PDS_PORT`, and `--listen` before both. Without it: `PDS_PORT` on all interfaces, under `--dev` on 127.0.0.1.
	Listen string `env:"PDS_LISTEN"`
	// The server's own DID: `aud` of every session token, so changing it signs everybody out. Without it: `did:web:` and the host name.
	ServiceDID string `env:"PDS_SERVICE_DID"`
	// Folder of everything that is kept: database, keys. `--data` wins.
	DataDirectory string `env:"PDS_DATA_DIRECTORY" default:"data"`
	// URL of the PLC directory. Under `--dev` one is embedded unless this is set.
	PLCURL string `env:"PDS_DID_PLC_URL" default:"https://plc.directory" dev:"embedded"`
	// Domains below which people get handles, each with a leading dot, separated by commas. Without it: a dot and the host name.
	HandleDomains []string `env:"PDS_SERVICE_HANDLE_DOMAINS" dev:".test"`
	// Name servers, addresses or names, that are asked for the TXT records of handles which the system's does not find.
	HandleBackupNameservers []string `env:"PDS_HANDLE_BACKUP_NAMESERVERS"`
	// Whether signing up takes an invite code.
	InviteRequired bool `env:"PDS_INVITE_REQUIRED" default:"true" dev:"false"`
	// Who may make an account: `open` anybody, `invite` who has a code, `migration-only` who moves in from another server (with a code if `PDS_INVITE_REQUIRED=true`), `closed` nobody but the operator by `nestbox account create`. Without it `PDS_INVITE_REQUIRED` decides between the first two.
	Signup string `env:"PDS_SIGNUP"`
	// Most accounts that are made in an hour without an invite code and by nobody who moves in; 0 is any number.
	SignupsPerHour int64 `env:"PDS_SIGNUPS_PER_HOUR" default:"100"`
	// How many accounts of this server relays take. They take 100 from a host that they do not know; whoever agreed with them on more writes that here. The log has a warning when there are nearly as many; 0 is none.
	RelayAccountLimit int64 `env:"PDS_RELAY_ACCOUNT_LIMIT" default:"100" dev:"0"`
	// Where invite codes are required: how long an account has lived, in milliseconds, for each code that it may give away, at most five at a time. Without it accounts earn none.
	InviteIntervalMS int64 `env:"PDS_INVITE_INTERVAL" default:"0"`
	// From when on that counts, in milliseconds since 1970.
	InviteEpochMS int64 `env:"PDS_INVITE_EPOCH" default:"0"`
	// Password of `admin` in HTTP Basic authentication. Without it one is generated into the data directory.
	AdminPassword Secret `env:"PDS_ADMIN_PASSWORD" dev:"admin"`
	// DID of the moderation service whose service tokens are taken like the admin's password where accounts, records and blobs are looked at and taken down.
	ModServiceDID string `env:"PDS_MOD_SERVICE_DID"`
	// Where reports of accounts about others are sent: the URL and the DID of a moderation service. Without them the reports go to `PDS_MOD_SERVICE_URL`, if that is set with `PDS_MOD_SERVICE_DID`; else nobody can report.
	ReportServiceURL string `env:"PDS_REPORT_SERVICE_URL"`
	// The DID of that service.
	ReportServiceDID string `env:"PDS_REPORT_SERVICE_DID"`
	// URL of the moderation service, for reports.
	ModServiceURL string `env:"PDS_MOD_SERVICE_URL"`
	// Secret that signs session tokens (HMAC-SHA256 over its bytes), the first key of the keyring; at least 32 bytes outside of development. Without it a key is generated into the data directory.
	JWTSecret Secret `env:"PDS_JWT_SECRET"`
	// Private key, 64 hexadecimal digits, that signs accounts' PLC operations. Without it one is generated into the data directory.
	PLCRotationKey Secret `env:"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"`
	// File with the key, 64 hexadecimal digits, that the private keys in the database are encrypted with, so that it need not lie beside them; `nestbox keys reseal --to` makes it. Without it, it is `key_encryption_key` in the data directory, generated at the first start.
	KeyEncryptionKeyFile string `env:"PDS_KEY_ENCRYPTION_KEY_FILE"`
	// A `did:key` that goes before the server's own among the rotation keys of new accounts.
	RecoveryDIDKey string `env:"PDS_RECOVERY_DID_KEY"`

	// Mail server, `smtps://user:password@host:port`, or `smtp://` for STARTTLS; special characters of user and password percent-encoded. `none`: the server sends no mail, and nobody can reset a password. Required outside development, where mail is printed without it.
	SMTPURL Secret `env:"PDS_EMAIL_SMTP_URL"`
	// The address that mail comes from, with or without a name: `Example <pds@example.com>`. Required outside development, unless no mail is sent.
	EmailFrom string `env:"PDS_EMAIL_FROM_ADDRESS"`
	// File with certificates (PEM) that the mail server's may come from, besides the system's.
	SMTPCAFile string `env:"PDS_EMAIL_SMTP_CA_FILE"`

	// Life of an access token. Outside development never under 20m: one SDK refreshes 15 minutes early on every call.
	AccessTokenTTL time.Duration `env:"PDS_ACCESS_TOKEN_TTL" default:"2h"`
	// Life of a refresh token: how long an unused session lasts.
	RefreshTokenTTL time.Duration `env:"PDS_REFRESH_TOKEN_TTL" default:"90d"`
	// How long a refresh token still works after its successor was used. The newest one and the one before it always work.
	SessionReuseWindow time.Duration `env:"PDS_SESSION_REUSE_WINDOW" default:"24h"`
	// What a refresh token beyond the reuse window does, besides being refused and recorded: nothing (`report`), or end its session (`revoke`).
	SessionReusePolicy string `env:"PDS_SESSION_REUSE_POLICY" default:"report"`
	// Live sessions of one account; the longest unused end first.
	SessionLimit int `env:"PDS_SESSION_LIMIT" default:"200"`

	// Whether requests, sign-ups and sign-ins are limited per client network and account.
	RateLimitsEnabled bool `env:"PDS_RATE_LIMITS_ENABLED" default:"true" dev:"false"`
	// Requests that carry this in the header `x-ratelimit-bypass` are not limited.
	RateLimitBypassKey Secret `env:"PDS_RATE_LIMIT_BYPASS_KEY"`
	// Addresses or networks that are not limited, separated by commas.
	RateLimitBypassIPs []netip.Prefix `env:"PDS_RATE_LIMIT_BYPASS_IPS"`
	// Addresses or networks of reverse proxies whose `X-Forwarded-For` is believed, separated by commas.
	TrustedProxies []netip.Prefix `env:"PDS_TRUSTED_PROXIES"`

	// Contact address that describeServer shows.
	ContactEmail string `env:"PDS_CONTACT_EMAIL_ADDRESS"`
	// Privacy policy that describeServer shows.
	PrivacyPolicyURL string `env:"PDS_PRIVACY_POLICY_URL"`
	// Terms of service that describeServer shows.
	TermsOfServiceURL string `env:"PDS_TERMS_OF_SERVICE_URL"`
	// Whether repositories may be imported (`importRepo`).
	AcceptingImports bool `env:"PDS_ACCEPTING_REPO_IMPORTS" default:"true"`
	// Largest repository that may be imported, in bytes. While it is, its file takes as much in the data directory.
	MaxImportSize int64 `env:"PDS_MAX_REPO_IMPORT_SIZE" default:"2147483648"`
	// Largest upload in bytes.
	BlobUploadLimit int64 `env:"PDS_BLOB_UPLOAD_LIMIT" default:"5242880"`
	// Bytes that one account's uploads may take together; `0` means any number.
	BlobQuota int64 `env:"PDS_BLOB_QUOTA" default:"0"`
	// Folder of uploads. Without it: `blobs` in the data directory.
	BlobDiskLocation string `env:"PDS_BLOBSTORE_DISK_LOCATION"`
	// Folder of uploads that are not finished, on the same file system. Without it: `tmp` in the folder of uploads.
	BlobDiskTmpLocation string `env:"PDS_BLOBSTORE_DISK_TMP_LOCATION"`

	// URLs of relays, separated by commas, that are told, at most every 20 minutes, that there is news to crawl. Not in development.
	Crawlers []string `env:"PDS_CRAWLERS"`
	// How long an event is kept for subscribers to catch up with, in milliseconds.
	RepoBackfillLimitMS int64 `env:"PDS_REPO_BACKFILL_LIMIT_MS" default:"86400000"`
	// Most bytes of events that are kept, whatever their age.
	FirehoseMaxBytes int64 `env:"PDS_FIREHOSE_MAX_BYTES" default:"1073741824"`

	// What is logged: `debug`, `info` (a line a request), `warn` or `error`.
	LogLevel string `env:"PDS_LOG_LEVEL" default:"info"`
	// How it is logged: `json` or `text`.
	LogFormat string `env:"PDS_LOG_FORMAT" default:"json" dev:"text"`
}

// EmbeddedPLC says whether the development directory is to be run.
func (c *Config) EmbeddedPLC() bool { return c.PLCURL == embedded }

const embedded = "embedded"

// PublicURL is the URL under which clients reach the server that listens on
// port.
func (c *Config) PublicURL(port string) string {
	if c.DevMode {
		return "http://localhost:" + port
	}
	return "https://" + c.Hostname
}

// Flags are the command line's settings; empty ones were not given.
type Flags struct {
	Listen  string
	Data    string
	EnvFile string
	Dev     bool
	// Command: the settings are for a command on the data directory, not for
	// serving. What its last server was told of itself, and the command was not,
	// is taken from there, and mail is not needed.
	Command bool
	// Mail: the command is about mail, whose settings are checked where they are
	// given.
	Mail bool
}
