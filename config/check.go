package config

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"math"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/datadir"
	nestmail "nestbox/mail"
)

// minAccessTTL holds outside of development: see PDS_ACCESS_TOKEN_TTL.
const minAccessTTL = 20 * time.Minute

// minSecret is the least length of PDS_JWT_SECRET outside of development, in bytes:
// that which the reference's installer writes. A guessed secret opens every
// account.
const minSecret = 32

// dpopSecretSize is the length of PDS_DPOP_SECRET, in bytes.
const dpopSecretSize = 32

// maxCount is the largest number of accounts that a setting may have.
const maxCount = 1_000_000_000

// maxEpochMS is the end of the last year with four digits, in milliseconds since
// 1970.
const maxEpochMS = 253_402_300_799_999

// check reports all faults of settings that parsed. A command does not know the secrets of
// the server, so a setting that lacks only its secret is right there.
func (c *Config) check(f *Faults, flags Flags) {
	c.checkNetwork(f)
	c.checkIdentity(f)
	if !flags.Command || flags.Mail && c.SMTPURL.IsSet() {
		c.checkMail(f)
	}
	c.checkSessions(f, flags)
	c.checkBlobs(f)
	c.checkFolders(f)
	c.checkPages(f)
	c.checkCaptcha(f, !flags.Command)
	c.checkFirehose(f)
	oneOf(f, "PDS_FIREHOSE_GUARD", c.FirehoseGuard, "stop", "warn")
	c.checkMetrics(f, !flags.Command)
	if !flags.Command {
		c.checkBackup(f)
	}
	if c.LogDestination != "" && !filepath.IsAbs(c.LogDestination) {
		f.add("PDS_LOG_DESTINATION", fmt.Sprintf("%q is not the full path of a file", c.LogDestination),
			"write one like /var/log/nestbox/nestbox.log")
	}
	if c.LogMaxSize < 0 {
		f.add("PDS_LOG_MAX_SIZE", "it is under 0", "write a number of bytes, or 0 for a file that only grows")
	}
	if c.LogKeep < 0 || c.LogKeep > maxKeptLogs {
		f.add("PDS_LOG_KEEP", "it is out of range", fmt.Sprintf("write a number of files up to %d", maxKeptLogs))
	}
	if math.IsNaN(c.LogSample) || c.LogSample < 0 || c.LogSample > 1 {
		f.add("PDS_LOG_SAMPLE", "it is out of range", "write a share from 0 to 1, like 0.1")
	}
	oneOf(f, "PDS_LOG_CLIENT", c.LogClient, "full", "network", "none")
	oneOf(f, "PDS_LOG_LEVEL", c.LogLevel, "debug", "info", "warn", "error")
	oneOf(f, "PDS_LOG_FORMAT", c.LogFormat, "text", "json")
}

// maxKeptLogs bounds how many files of the log are kept.
const maxKeptLogs = 1000

func oneOf(f *Faults, name, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		f.add(name, fmt.Sprintf("%q is unknown", got), "write one of "+strings.Join(allowed, ", "))
	}
}

func (c *Config) checkNetwork(f *Faults) {
	if !c.portUsable() {
		f.add("PDS_PORT", fmt.Sprintf("%d is no port", c.Port), "write a number from 0 to 65535")
	}
	if c.Listen != "" { // otherwise it follows from the port, which is at fault
		c.checkListen(f)
	}
	if c.EmbeddedPLC() {
		if !c.DevMode {
			f.add("PDS_DID_PLC_URL", "there is an embedded directory in development only", "write a URL like https://plc.directory")
		}
		return
	}
	if !isURL(c.PLCURL) {
		f.add("PDS_DID_PLC_URL", fmt.Sprintf("%q is no URL", c.PLCURL), "write a URL like https://plc.directory")
	}
}

func (c *Config) checkListen(f *Faults) {
	host, port, err := net.SplitHostPort(c.Listen)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		f.add("PDS_LISTEN", fmt.Sprintf("%q is no address", c.Listen), "write host:port, like 127.0.0.1:2583")
	} else if ip := net.ParseIP(host); c.DevMode && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		f.add("PDS_LISTEN", fmt.Sprintf("%q is not on loopback", c.Listen),
			"a development server (known admin password, open sign-up) listens on 127.0.0.1 only")
	}
}

// maxStopDelay bounds how long a server goes on after the signal to stop.
const maxStopDelay = 5 * time.Minute

// checkMetrics checks what the operator's own tools ask. secrets: they are known.
func (c *Config) checkMetrics(f *Faults, secrets bool) {
	if c.StopDelay > maxStopDelay {
		f.add("PDS_STOP_DELAY", "it is longer than 5m", "write a duration like 10s")
	}
	if c.DiskFloor < 0 {
		f.add("PDS_DISK_FLOOR", "it is under 0", "write a number of bytes, or 0 for no floor")
	}
	if c.MetricsToken.IsSet() && len(c.MetricsToken.Reveal()) < minToken && !c.DevMode {
		f.add("PDS_METRICS_TOKEN", fmt.Sprintf("it is shorter than %d bytes", minToken),
			"write 32 hexadecimal digits or more, as openssl rand --hex 16 makes them")
	}
	if c.MetricsListen == "" || filepath.IsAbs(c.MetricsListen) {
		return
	}
	host, port, err := net.SplitHostPort(c.MetricsListen)
	if n, perr := strconv.Atoi(port); err != nil || perr != nil || n < 0 || n > 65535 {
		f.add("PDS_METRICS_LISTEN", fmt.Sprintf("%q is no address", c.MetricsListen),
			"write host:port, like 127.0.0.1:2584, or the full path of a Unix socket")
		return
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) && secrets && !c.MetricsToken.IsSet() {
		f.add("PDS_METRICS_TOKEN", "it is not set, and PDS_METRICS_LISTEN is not on loopback",
			"write 32 hexadecimal digits or more, as openssl rand --hex 16 makes them")
	}
}

// minToken is the least length of PDS_METRICS_TOKEN, in bytes.
const minToken = 16

func (c *Config) portUsable() bool { return c.Port >= 0 && c.Port <= 65535 }

func (c *Config) hostnameUsable() bool {
	_, err := syntax.ParseHandle(c.Hostname)
	return err == nil || c.DevMode && c.Hostname == "localhost"
}

func (c *Config) checkIdentity(f *Faults) {
	switch {
	case c.Hostname == "":
		f.add("PDS_HOSTNAME", "it is not set", "write the public host name, like pds.example.com (nestbox serve --dev needs none)")
	case !c.hostnameUsable():
		f.add("PDS_HOSTNAME", fmt.Sprintf("%q is no host name", c.Hostname),
			"write a name with a dot, without https:// and port, like pds.example.com")
	}
	if _, err := syntax.ParseDID(c.ServiceDID); err != nil && c.ServiceDID != "" {
		f.add("PDS_SERVICE_DID", fmt.Sprintf("%q is no DID", c.ServiceDID), "write one like did:web:pds.example.com")
	}
	if _, err := syntax.ParseDID(c.ModServiceDID); err != nil && c.ModServiceDID != "" {
		f.add("PDS_MOD_SERVICE_DID", fmt.Sprintf("%q is no DID", c.ModServiceDID), "write one like did:plc:ar7c4by46qjdydhdevvrndac")
	}
	c.checkReports(f)
	c.checkServices(f)
	for _, d := range c.HandleDomains {
		if _, err := syntax.ParseHandle("abc" + d); err != nil || !strings.HasPrefix(d, ".") {
			f.add("PDS_SERVICE_HANDLE_DOMAINS", fmt.Sprintf("%q is no handle domain", d), "write domains with a leading dot, like .example.com")
		}
	}
	for _, n := range c.HandleBackupNameservers {
		if !isHostOrAddress(n) {
			f.add("PDS_HANDLE_BACKUP_NAMESERVERS", fmt.Sprintf("%q is no name server", n),
				"write addresses or host names, with or without a port, like 9.9.9.9 or [2620:fe::fe]:53")
		}
	}
	if k := c.PLCRotationKey; k.IsSet() {
		raw, err := hex.DecodeString(k.Reveal())
		if err == nil {
			_, err = atcrypto.ParsePrivateBytesK256(raw)
		}
		if err != nil {
			f.add("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX", "it is no K-256 private key",
				"write 64 hexadecimal digits, as openssl rand -hex 32 makes them")
		}
	}
	if c.RecoveryDIDKey != "" {
		if _, err := atcrypto.ParsePublicDIDKey(c.RecoveryDIDKey); err != nil {
			f.add("PDS_RECOVERY_DID_KEY", "it is no key", "write a public key like did:key:zQ3sh…")
		}
	}
}

func (c *Config) checkMail(f *Faults) {
	const dev = " (nestbox serve --dev needs none)"
	switch {
	case !c.SMTPURL.IsSet() && !c.DevMode:
		f.add("PDS_EMAIL_SMTP_URL", "it is not set", "write smtps://user:password@host:465, or none for a server that sends no mail"+dev)
	case c.SendsMail():
		if _, err := nestmail.ParseURL(c.SMTPURL.Reveal()); err != nil {
			f.add("PDS_EMAIL_SMTP_URL", "it is no SMTP URL", err.Error())
		}
	}
	needed := !c.DevMode && c.SMTPURL.Reveal() != nestmail.Disabled
	switch _, err := mail.ParseAddress(c.EmailFrom); {
	case c.EmailFrom == "" && needed:
		f.add("PDS_EMAIL_FROM_ADDRESS", "it is not set", "write the address that mail comes from, like pds@example.com"+dev)
	case c.EmailFrom == "":
	case err != nil:
		f.add("PDS_EMAIL_FROM_ADDRESS", fmt.Sprintf("%q is no address", c.EmailFrom), "write one like pds@example.com")
	}
	if c.SMTPCAFile != "" {
		raw, err := os.ReadFile(c.SMTPCAFile)
		if err != nil || !x509.NewCertPool().AppendCertsFromPEM(raw) {
			f.add("PDS_EMAIL_SMTP_CA_FILE", fmt.Sprintf("%q cannot be read, or holds no certificate", c.SMTPCAFile),
				"name a file with PEM certificates")
		}
	}
}

// SendsMail reports whether there is a mail server to send through.
func (c *Config) SendsMail() bool {
	return c.SMTPURL.IsSet() && c.SMTPURL.Reveal() != nestmail.Disabled
}

func (c *Config) checkSessions(f *Faults, flags Flags) {
	if k := c.JWTSecret; k.IsSet() && len(k.Reveal()) < minSecret && !c.DevMode && !flags.Inherits && !c.restores() {
		f.add("PDS_JWT_SECRET", fmt.Sprintf("it is shorter than %d bytes", minSecret),
			"write 32 hexadecimal digits or more, as openssl rand --hex 16 makes them, or leave it out; "+
				"either ends the sessions of a server that had this secret")
	}
	if k := c.DPoPSecret; k.IsSet() {
		if raw, err := hex.DecodeString(k.Reveal()); err != nil || len(raw) != dpopSecretSize {
			f.add("PDS_DPOP_SECRET", "it is not 64 hexadecimal digits", "write 64, as openssl rand -hex 32 makes them, or leave it out")
		}
	}
	for _, id := range c.OAuthTrustedClients {
		if !isURL(id) {
			f.add("PDS_OAUTH_TRUSTED_CLIENTS", fmt.Sprintf("%q is no client_id", id),
				"write URLs like https://app.example.com/oauth-client-metadata.json")
		}
	}
	c.checkGrants(f)
	oneOf(f, "PDS_SESSION_REUSE_POLICY", c.SessionReusePolicy, "report", "revoke")
	switch {
	case c.AccessTokenTTL < time.Second:
		f.add("PDS_ACCESS_TOKEN_TTL", "it is under a second", "write a duration like 2h")
	case !c.DevMode && c.AccessTokenTTL < minAccessTTL:
		f.add("PDS_ACCESS_TOKEN_TTL", "it is under 20m", "write 20m or more: one SDK refreshes 15 minutes early on every call")
	}
	switch {
	case c.RefreshTokenTTL <= c.AccessTokenTTL:
		f.add("PDS_REFRESH_TOKEN_TTL", "it is not longer than PDS_ACCESS_TOKEN_TTL", "write a duration like 90d")
	case c.SessionReuseWindow > c.RefreshTokenTTL:
		f.add("PDS_SESSION_REUSE_WINDOW", "it is longer than PDS_REFRESH_TOKEN_TTL", "write a duration like 24h")
	}
	if c.SessionLimit < 1 {
		f.add("PDS_SESSION_LIMIT", "it is under 1", "write a number like 200")
	}
}

// The bounds of what an OAuth client gets; those of the specification are the first and the
// third.
const (
	maxOAuthAccess  = 29 * time.Minute
	minOAuthAccess  = 5 * time.Minute
	maxOAuthPublic  = 14 * 24 * time.Hour
	maxOAuthRefresh = 180 * 24 * time.Hour
	maxOAuthSession = 10 * 365 * 24 * time.Hour
)

func (c *Config) checkGrants(f *Faults) {
	if ttl := c.OAuthAccessTokenTTL; ttl > maxOAuthAccess || ttl < minOAuthAccess && !c.DevMode || ttl < time.Second {
		f.add("PDS_OAUTH_ACCESS_TOKEN_TTL", "it is not between 5m and 29m", "write a duration like 25m")
	}
	if ttl := c.OAuthPublicSessionTTL; ttl > maxOAuthPublic || ttl < c.OAuthAccessTokenTTL {
		f.add("PDS_OAUTH_PUBLIC_SESSION_TTL", "it is longer than 14d, or shorter than an access token's life", "write a duration like 14d")
	}
	if ttl := c.OAuthRefreshTokenTTL; ttl > maxOAuthRefresh || ttl < min(c.OAuthPublicSessionTTL, maxOAuthPublic) {
		f.add("PDS_OAUTH_REFRESH_TOKEN_TTL", "it is longer than 180d, or shorter than PDS_OAUTH_PUBLIC_SESSION_TTL", "write a duration like 90d")
	}
	if ttl := c.OAuthSessionTTL; ttl > maxOAuthSession || ttl < c.OAuthAccessTokenTTL {
		f.add("PDS_OAUTH_SESSION_TTL", "it is longer than 3650d, or shorter than an access token's life", "write a duration like 730d")
	}
}

func (c *Config) checkFirehose(f *Faults) {
	for _, relay := range c.Crawlers {
		if !isURL(relay) {
			f.add("PDS_CRAWLERS", fmt.Sprintf("%q is no URL", relay), "write URLs like https://bsky.network")
		}
	}
	if c.SignupsPerHour < 0 || c.SignupsPerHour > maxCount {
		f.add("PDS_SIGNUPS_PER_HOUR", "it is out of range", "write a number of accounts, or 0")
	}
	if c.RelayAccountLimit < 0 || c.RelayAccountLimit > maxCount {
		f.add("PDS_RELAY_ACCOUNT_LIMIT", "it is out of range", "write a number of accounts, or 0")
	}
	if ms := c.InviteIntervalMS; ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
		f.add("PDS_INVITE_INTERVAL", "it is out of range", "write a number of milliseconds like 604800000, or leave it out")
	}
	if ms := c.InviteEpochMS; ms < 0 || ms > maxEpochMS {
		f.add("PDS_INVITE_EPOCH", "it is out of range", "write a number of milliseconds since 1970 like 1767225600000")
	}
	if ms := c.RepoBackfillLimitMS; ms < 1 || ms > math.MaxInt64/int64(time.Millisecond) {
		f.add("PDS_REPO_BACKFILL_LIMIT_MS", "it is out of range", "write a number of milliseconds like 86400000")
	}
	if c.FirehoseMaxBytes < 1 {
		f.add("PDS_FIREHOSE_MAX_BYTES", "it is under 1", "write a number of bytes")
	}
}

func (c *Config) checkBlobs(f *Faults) {
	if c.MaxImportSize < 1 {
		f.add("PDS_MAX_REPO_IMPORT_SIZE", "it is under 1", "write a number of bytes")
	}
	if c.BlobUploadLimit < 1 {
		f.add("PDS_BLOB_UPLOAD_LIMIT", "it is under 1", "write a number of bytes")
	}
	if c.BlobQuota < 0 {
		f.add("PDS_BLOB_QUOTA", "it is under 0", "write a number of bytes, or 0 for no quota")
	}
}

// isHostOrAddress reports whether text names a host, by name or address, with or
// without a port.
func isHostOrAddress(text string) bool {
	host := text
	if h, port, err := net.SplitHostPort(text); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		host = h
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	_, err := syntax.ParseHandle(host)
	return err == nil
}

// checkReports checks where reports go.
func (c *Config) checkReports(f *Faults) {
	_, err := syntax.ParseDID(c.ReportServiceDID)
	badURL, badDID := c.ReportServiceURL != "" && !isOrigin(c.ReportServiceURL), c.ReportServiceDID != "" && err != nil
	if badURL {
		f.add("PDS_REPORT_SERVICE_URL", fmt.Sprintf("%q is no URL", c.ReportServiceURL), "write a URL like https://reports.example.com")
	}
	if badDID {
		f.add("PDS_REPORT_SERVICE_DID", fmt.Sprintf("%q is no DID", c.ReportServiceDID), "write one like did:plc:ar7c4by46qjdydhdevvrndac")
	}
	if !badURL && !badDID && (c.ReportServiceURL == "") != (c.ReportServiceDID == "") {
		f.add("PDS_REPORT_SERVICE_DID", "it goes with PDS_REPORT_SERVICE_URL", "set both, or neither")
	}
	switch {
	case c.ModServiceURL != "" && !isOrigin(c.ModServiceURL):
		f.add("PDS_MOD_SERVICE_URL", fmt.Sprintf("%q is no URL", c.ModServiceURL), "write a URL like https://mod.example.com")
	case c.ModServiceURL != "" && c.ModServiceDID == "":
		f.add("PDS_MOD_SERVICE_URL", "it goes with PDS_MOD_SERVICE_DID", "set that too")
	}
}

// maxProxyWaitMS bounds how long a service is waited for: no client waits longer.
const maxProxyWaitMS = 300_000

// checkServices checks the services that calls are passed on to.
func (c *Config) checkServices(f *Faults) {
	if _, err := syntax.ParseDID(c.LexiconAuthorityDID); c.LexiconAuthorityDID != "" && err != nil {
		f.add("PDS_LEXICON_AUTHORITY_DID", fmt.Sprintf("%q is no DID", c.LexiconAuthorityDID), "write one like did:plc:ar7c4by46qjdydhdevvrndac")
	}
	if _, err := syntax.ParseDID(c.AppViewDID); c.AppViewDID != "" && err != nil {
		f.add("PDS_BSKY_APP_VIEW_DID", fmt.Sprintf("%q is no DID", c.AppViewDID), "write one like did:web:api.bsky.app")
	}
	switch {
	case c.AppViewURL != "" && !isOrigin(c.AppViewURL):
		f.add("PDS_BSKY_APP_VIEW_URL", fmt.Sprintf("%q is not the URL of a service", c.AppViewURL),
			"write one like https://api.bsky.app, without a path")
	case c.AppViewURL != "" && c.AppViewDID == "":
		f.add("PDS_BSKY_APP_VIEW_URL", "it goes with PDS_BSKY_APP_VIEW_DID", "set that too")
	}
	if n := strings.Count(c.AppViewCDN, "%s"); c.AppViewCDN != "" && (n != 3 || !isURL(strings.ReplaceAll(c.AppViewCDN, "%s", "x"))) {
		f.add("PDS_BSKY_APP_VIEW_CDN_URL_PATTERN", fmt.Sprintf("%q is not a URL with three %%s", c.AppViewCDN),
			"write one like https://cdn.bsky.app/img/%s/plain/%s/%s@jpeg")
	}
	for name, ms := range map[string]int64{
		"PDS_PROXY_HEADERS_TIMEOUT": c.ProxyHeadersTimeoutMS, "PDS_PROXY_BODY_TIMEOUT": c.ProxyBodyTimeoutMS,
	} {
		if ms < 1 || ms > maxProxyWaitMS {
			f.add(name, "it is out of range", fmt.Sprintf("write a number of milliseconds from 1 to %d", maxProxyWaitMS))
		}
	}
	if c.ProxyMaxResponseSize < 1 {
		f.add("PDS_PROXY_MAX_RESPONSE_SIZE", "it is out of range", "write a number of bytes like 10485760")
	}
}

// isOrigin reports whether text is a URL of nothing but a scheme, a host and a port.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isURL(text) && u.User == nil && (u.Path == "" || u.Path == "/") && !strings.ContainsAny(text, "?#")
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
}

// restores reports whether the data directory is to be restored first: whose secrets the settings have is not known before.
func (c *Config) restores() bool {
	return c.RestoreFrom != "" && !exists(datadir.Dir(c.DataDirectory).Database())
}
