package config_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/config"
)

// required returns the settings that a server outside of development needs.
func required(more ...string) []string {
	return append([]string{
		"PDS_HOSTNAME=pds.example.com", "PDS_EMAIL_SMTP_URL=smtps://u:p@mail.example.com:465", "PDS_EMAIL_FROM_ADDRESS=pds@example.com",
	}, more...)
}

func load(t *testing.T, f config.Flags, environ ...string) config.Config {
	t.Helper()
	c, warnings, err := config.Load(f, environ)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("%v, warnings %q", err, warnings)
	}
	return c
}

func envFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDefaults compares every setting, in production and in development.
func TestDefaults(t *testing.T) {
	common := config.Config{
		Port: 2583, DataDirectory: "data", BackupEvery: 24 * time.Hour, FirehoseGuard: "warn", AccessTokenTTL: 2 * time.Hour, RefreshTokenTTL: 90 * 24 * time.Hour,
		OAuthAccessTokenTTL: 25 * time.Minute, OAuthRefreshTokenTTL: 90 * 24 * time.Hour, OAuthPublicSessionTTL: 14 * 24 * time.Hour,
		OAuthSessionTTL:    730 * 24 * time.Hour,
		SessionReuseWindow: 24 * time.Hour, SessionReusePolicy: "report", SessionLimit: 200, BlobUploadLimit: 300 << 20, LogLevel: "info",
		AcceptingImports: true, AdminPages: true, MaxImportSize: 2 << 30, SignupsPerHour: 100,
		RepoBackfillLimitMS: 86_400_000, FirehoseMaxBytes: 1 << 30,
		ProxyHeadersTimeoutMS: 10_000, ProxyBodyTimeoutMS: 30_000, ProxyMaxResponseSize: 10 << 20,
		DiskFloor: 512 << 20, LogMaxSize: 100 << 20, LogKeep: 5, LogClient: "full", LogSample: 1,
	}
	production := common
	production.Hostname, production.ServiceDID, production.HandleDomains = "pds.example.com", "did:web:pds.example.com", []string{".pds.example.com"}
	production.Listen, production.PLCURL, production.LogFormat = ":2583", "https://plc.directory", "json"
	production.InviteRequired, production.RateLimitsEnabled = true, true
	production.Signup, production.RelayAccountLimit = config.SignupInvite, 100
	production.SMTPURL, production.EmailFrom = config.NewSecret("smtps://u:p@mail.example.com:465"), "pds@example.com"

	dev := common
	dev.DevMode, dev.Hostname, dev.ServiceDID, dev.HandleDomains = true, "localhost", "did:web:localhost", []string{".test"}
	dev.Signup = config.SignupOpen
	dev.Listen, dev.PLCURL, dev.LogFormat, dev.AdminPassword = "127.0.0.1:2583", "embedded", "text", config.NewSecret("admin")

	for name, c := range map[string]struct {
		got, want config.Config
	}{
		"production":             {load(t, config.Flags{}, required()...), production},
		"development":            {load(t, config.Flags{Dev: true}), dev},
		"development, by a name": {load(t, config.Flags{}, "PDS_DEV_MODE=1"), dev},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, c.got, c.want)
		}
	}
	if got := production.PublicURL("2583"); got != "https://pds.example.com" {
		t.Errorf("public URL %s", got)
	}
	if got := dev.PublicURL("1234"); got != "http://localhost:1234" || !dev.EmbeddedPLC() || production.EmbeddedPLC() {
		t.Errorf("development's URL %s", got)
	}
}

// everySetting returns a good value for each setting, other than its default, and
// what it becomes.
func everySetting() map[string]struct {
	raw  string
	want any
} {
	const hexKey = "0101010101010101010101010101010101010101010101010101010101010101"
	const didKey = "did:key:zQ3shunBKsXixLxKtC5qeSG9E4J5RkGN57im31pcTzbNQnm5w"
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("::1/128")}
	const recipient = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
	return map[string]struct {
		raw  string
		want any
	}{
		"PDS_RESTORE_FROM":                          {"s3://bucket/nest", "s3://bucket/nest"},
		"PDS_RESTORE_IDENTITY_FILE":                 {"/run/identity", "/run/identity"},
		"PDS_FIREHOSE_GUARD":                        {"stop", "stop"},
		"PDS_BACKUP_TO":                             {"/mnt/backups", "/mnt/backups"},
		"PDS_BACKUP_SNAPSHOT_EVERY":                 {"6h", 6 * time.Hour},
		"PDS_BACKUP_RECIPIENT":                      {recipient, []string{recipient}},
		"PDS_BACKUP_KEEP":                           {"daily=7", "daily=7"},
		"PDS_BACKUP_S3_REGION":                      {"eu-central-1", "eu-central-1"},
		"PDS_BACKUP_S3_ENDPOINT":                    {"https://s3.example.com", "https://s3.example.com"},
		"PDS_BACKUP_S3_FORCE_PATH_STYLE":            {"true", true},
		"PDS_BACKUP_S3_ACCESS_KEY_ID":               {"key", "key"},
		"PDS_BACKUP_S3_SECRET_ACCESS_KEY":           {"secret", config.NewSecret("secret")},
		"PDS_DEV_MODE":                              {"false", false},
		"PDS_HOSTNAME":                              {"other.example.com", "other.example.com"},
		"PDS_PORT":                                  {"8080", 8080},
		"PDS_LISTEN":                                {"[::1]:99", "[::1]:99"},
		"PDS_SERVICE_DID":                           {"did:web:x.example.com", "did:web:x.example.com"},
		"PDS_DATA_DIRECTORY":                        {"/pds", "/pds"},
		"PDS_DID_PLC_URL":                           {"http://plc.example.com/", "http://plc.example.com"},
		"PDS_LEXICON_AUTHORITY_DID":                 {"did:plc:ar7c4by46qjdydhdevvrndac", "did:plc:ar7c4by46qjdydhdevvrndac"},
		"PDS_MOD_SERVICE_DID":                       {"did:plc:ar7c4by46qjdydhdevvrndac", "did:plc:ar7c4by46qjdydhdevvrndac"},
		"PDS_HANDLE_BACKUP_NAMESERVERS":             {"9.9.9.9,dns.example.com:5353", []string{"9.9.9.9", "dns.example.com:5353"}},
		"PDS_SERVICE_HANDLE_DOMAINS":                {" .A.example.com , .b.example.com,", []string{".a.example.com", ".b.example.com"}},
		"PDS_INVITE_REQUIRED":                       {"0", false},
		"PDS_ADMIN_PASSWORD":                        {"p w", config.NewSecret("p w")},
		"PDS_JWT_SECRET":                            {"0123456789abcdef0123456789abcdef", config.NewSecret("0123456789abcdef0123456789abcdef")},
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": {hexKey, config.NewSecret(hexKey)},
		"PDS_DPOP_SECRET":                           {hexKey, config.NewSecret(hexKey)},
		"PDS_OAUTH_ACCESS_TOKEN_TTL":                {"5m", 5 * time.Minute},
		"PDS_OAUTH_REFRESH_TOKEN_TTL":               {"180d", 180 * 24 * time.Hour},
		"PDS_OAUTH_PUBLIC_SESSION_TTL":              {"1d", 24 * time.Hour},
		"PDS_OAUTH_SESSION_TTL":                     {"365d", 365 * 24 * time.Hour},
		"PDS_OAUTH_TRUSTED_CLIENTS":                 {"https://a.example/x.json,https://b.example/y.json", []string{"https://a.example/x.json", "https://b.example/y.json"}},
		"PDS_SERVICE_NAME":                          {"Nest of Ours", "Nest of Ours"},
		"PDS_HOME_URL":                              {"https://example.com", "https://example.com"},
		"PDS_SUPPORT_URL":                           {"https://example.com/help", "https://example.com/help"},
		"PDS_LOGO_URL":                              {"https://cdn.example.com/logo.svg", "https://cdn.example.com/logo.svg"},
		"PDS_BACKGROUND_LIGHT_URL":                  {"https://cdn.example.com/a.jpg", "https://cdn.example.com/a.jpg"},
		"PDS_BACKGROUND_DARK_URL":                   {"https://cdn.example.com/b.jpg", "https://cdn.example.com/b.jpg"},
		"PDS_PRIMARY_COLOR":                         {"#1f6b58", "#1f6b58"},
		"PDS_ERROR_COLOR":                           {"#f00", "#f00"},
		"PDS_WARNING_COLOR":                         {"rgb(1, 2, 3)", "rgb(1, 2, 3)"},
		"PDS_INFO_COLOR":                            {"hsl(165, 55%, 27%)", "hsl(165, 55%, 27%)"},
		"PDS_SUCCESS_COLOR":                         {"#0f0", "#0f0"},
		"PDS_HCAPTCHA_SITE_KEY":                     {"10000000-ffff-ffff-ffff-000000000001", "10000000-ffff-ffff-ffff-000000000001"},
		"PDS_HCAPTCHA_SECRET_KEY":                   {"0x0000", config.NewSecret("0x0000")},
		"PDS_HCAPTCHA_TOKEN_SALT":                   {"salt", config.NewSecret("salt")},
		"PDS_KEY_ENCRYPTION_KEY_FILE":               {"/etc/nestbox/key", "/etc/nestbox/key"},
		"PDS_RECOVERY_DID_KEY":                      {didKey, didKey},
		"PDS_EMAIL_SMTP_URL":                        {"smtp://mail.example.com:25", config.NewSecret("smtp://mail.example.com:25")},
		"PDS_EMAIL_FROM_ADDRESS":                    {"Nest <nest@example.com>", "Nest <nest@example.com>"},
		"PDS_EMAIL_SMTP_CA_FILE":                    {"testdata/ca.pem", "testdata/ca.pem"},
		"PDS_ACCESS_TOKEN_TTL":                      {"20m", 20 * time.Minute},
		"PDS_REFRESH_TOKEN_TTL":                     {"1d12h", 36 * time.Hour},
		"PDS_SESSION_REUSE_WINDOW":                  {"1500ms", 1500 * time.Millisecond},
		"PDS_SESSION_REUSE_POLICY":                  {"revoke", "revoke"},
		"PDS_SESSION_LIMIT":                         {"5", 5},
		"PDS_RATE_LIMITS_ENABLED":                   {"false", false},
		"PDS_RATE_LIMIT_BYPASS_KEY":                 {"k", config.NewSecret("k")},
		"PDS_RATE_LIMIT_BYPASS_IPS":                 {"10.1.2.3/8,192.0.2.7", prefixes[:2]},
		"PDS_ADMIN_PAGES":                           {"false", false},
		"PDS_ADMIN_NETWORKS":                        {"10.1.2.3/8,192.0.2.7", prefixes[:2]},
		"PDS_METRICS_LISTEN":                        {"127.0.0.1:2584", "127.0.0.1:2584"},
		"PDS_METRICS_TOKEN":                         {"0123456789abcdef", config.NewSecret("0123456789abcdef")},
		"PDS_STOP_DELAY":                            {"10s", 10 * time.Second},
		"PDS_DISK_FLOOR":                            {"10000000000", int64(10_000_000_000)},
		"PDS_TRUSTED_PROXIES":                       {"10.0.0.0/8, ::ffff:192.0.2.7, fd00::1/8, ::1", prefixes},
		"PDS_CONTACT_EMAIL_ADDRESS":                 {"c@example.com", "c@example.com"},
		"PDS_PRIVACY_POLICY_URL":                    {"https://a.example", "https://a.example"},
		"PDS_TERMS_OF_SERVICE_URL":                  {"https://b.example", "https://b.example"},
		"PDS_ACCEPTING_REPO_IMPORTS":                {"false", false},
		"PDS_MAX_REPO_IMPORT_SIZE":                  {"10000000000", int64(10_000_000_000)},
		"PDS_BLOB_UPLOAD_LIMIT":                     {"10000000000", int64(10_000_000_000)},
		"PDS_BLOB_QUOTA":                            {"10000000000", int64(10_000_000_000)},
		"PDS_CRAWLERS":                              {"https://a.example,https://b.example", []string{"https://a.example", "https://b.example"}},
		"PDS_REPO_BACKFILL_LIMIT_MS":                {"3600000", int64(3_600_000)},
		"PDS_INVITE_INTERVAL":                       {"604800000", int64(604_800_000)},
		"PDS_REPORT_SERVICE_URL":                    {"https://reports.example.com", "https://reports.example.com"},
		"PDS_BSKY_APP_VIEW_URL":                     {"https://api.example.com/", "https://api.example.com/"},
		"PDS_BSKY_APP_VIEW_DID":                     {"did:web:api.example.com", "did:web:api.example.com"},
		"PDS_BSKY_APP_VIEW_CDN_URL_PATTERN":         {"https://cdn.example.com/%s/%s/%s", "https://cdn.example.com/%s/%s/%s"},
		"PDS_PROXY_HEADERS_TIMEOUT":                 {"5000", int64(5000)},
		"PDS_PROXY_BODY_TIMEOUT":                    {"20000", int64(20000)},
		"PDS_PROXY_MAX_RESPONSE_SIZE":               {"1000000", int64(1000000)},
		"PDS_PROXY_ALLOW_HTTP2":                     {"true", true},
		"PDS_REPORT_SERVICE_DID":                    {"did:web:reports.example.com", "did:web:reports.example.com"},
		"PDS_MOD_SERVICE_URL":                       {"https://mod.example.com", "https://mod.example.com"},
		"PDS_SIGNUP":                                {"migration-only", config.SignupMigrationOnly},
		"PDS_SIGNUPS_PER_HOUR":                      {"7", int64(7)},
		"PDS_RELAY_ACCOUNT_LIMIT":                   {"1000", int64(1000)},
		"PDS_INVITE_EPOCH":                          {"1767225600000", int64(1_767_225_600_000)},
		"PDS_FIREHOSE_MAX_BYTES":                    {"10000000000", int64(10_000_000_000)},
		"PDS_BLOBSTORE_DISK_LOCATION":               {"/pds/blocks", "/pds/blocks"},
		"PDS_BLOBSTORE_DISK_TMP_LOCATION":           {"/pds/tmp", "/pds/tmp"},
		"PDS_LOG_LEVEL":                             {"debug", "debug"},
		"PDS_LOG_FORMAT":                            {"text", "text"},
		"PDS_LOG_DESTINATION":                       {"/var/log/pds.log", "/var/log/pds.log"},
		"PDS_LOG_MAX_SIZE":                          {"10000000000", int64(10_000_000_000)},
		"PDS_LOG_KEEP":                              {"3", 3},
		"PDS_LOG_CLIENT":                            {"network", "network"},
		"PDS_LOG_SAMPLE":                            {"0.05", 0.05},
	}
}

// field returns the value of the field that a setting fills.
func field(t *testing.T, c config.Config, setting string) any {
	t.Helper()
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("env") == setting {
			return v.Field(i).Interface()
		}
	}
	t.Fatalf("no field for %s", setting)
	return nil
}

func TestEverySetting(t *testing.T) {
	settings := everySetting()
	for f := range reflect.TypeFor[config.Config]().Fields() {
		if _, ok := settings[f.Tag.Get("env")]; !ok {
			t.Errorf("%s (%s) has no row", f.Name, f.Tag.Get("env"))
		}
	}
	var file strings.Builder
	partner := map[string]string{ // some are useless alone
		"PDS_REPORT_SERVICE_URL": "PDS_REPORT_SERVICE_DID=did:web:x.example.com", "PDS_REPORT_SERVICE_DID": "PDS_REPORT_SERVICE_URL=https://x.example.com",
		"PDS_HCAPTCHA_SITE_KEY": "PDS_HCAPTCHA_SECRET_KEY=0x0000", "PDS_HCAPTCHA_SECRET_KEY": "PDS_HCAPTCHA_SITE_KEY=10000000-ffff",
		"PDS_BACKUP_S3_ACCESS_KEY_ID": "PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret", "PDS_BACKUP_S3_SECRET_ACCESS_KEY": "PDS_BACKUP_S3_ACCESS_KEY_ID=key",
		"PDS_MOD_SERVICE_URL": "PDS_MOD_SERVICE_DID=did:web:x.example.com", "PDS_BSKY_APP_VIEW_URL": "PDS_BSKY_APP_VIEW_DID=did:web:x.example.com",
	}
	for name, s := range settings {
		given := []string{name + "=" + s.raw}
		if other := partner[name]; other != "" {
			given = append(given, other)
		}
		c := load(t, config.Flags{}, required(given...)...)
		if got := field(t, c, name); !reflect.DeepEqual(got, s.want) {
			t.Errorf("%s=%s: %#v, want %#v", name, s.raw, got, s.want)
		}
		fmt.Fprintf(&file, "%s='%s'\n", name, s.raw)
	}
	c := load(t, config.Flags{EnvFile: envFile(t, file.String())})
	for name, s := range settings {
		if got := field(t, c, name); !reflect.DeepEqual(got, s.want) {
			t.Errorf("%s=%s in a file: %#v, want %#v", name, s.raw, got, s.want)
		}
	}
}

// TestPrecedence: flags win over the environment, the environment over the file,
// and an empty value is not set.
func TestPrecedence(t *testing.T) {
	file := envFile(t, "PDS_DATA_DIRECTORY=file\nPDS_LISTEN=127.0.0.1:1\nPDS_PORT=1\nPDS_LOG_LEVEL=error\nPDS_SESSION_LIMIT=\nPDS_DEV_MODE=false\n")
	environ := required("PDS_DATA_DIRECTORY=environment", "PDS_LISTEN=127.0.0.1:2", "PDS_PORT=2", "PDS_LOG_LEVEL=", "HOME=/root", "nonsense")
	for _, c := range []struct {
		name    string
		flags   config.Flags
		environ []string
		want    string
	}{
		{"nothing", config.Flags{}, required(), "data :2583 2583 info 200"},
		{"file", config.Flags{EnvFile: file}, required(), "file 127.0.0.1:1 1 error 200"},
		{"environment", config.Flags{}, environ, "environment 127.0.0.1:2 2 info 200"},
		{"both", config.Flags{EnvFile: file}, environ, "environment 127.0.0.1:2 2 error 200"},
		{"flags", config.Flags{EnvFile: file, Data: "flag", Listen: "127.0.0.1:3"}, environ, "flag 127.0.0.1:3 2 error 200"},
	} {
		got := load(t, c.flags, c.environ...)
		if s := fmt.Sprint(got.DataDirectory, " ", got.Listen, " ", got.Port, " ", got.LogLevel, " ", got.SessionLimit); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
	if c := load(t, config.Flags{Dev: true, EnvFile: envFile(t, "PDS_DEV_MODE=false\nPDS_HOSTNAME=pds.example.com\n")}, "PDS_DEV_MODE=false"); !c.DevMode || c.Hostname != "pds.example.com" {
		t.Errorf("--dev: %+v", c)
	}
	if c := load(t, config.Flags{Dev: true}, "PDS_PORT=99"); c.Listen != "127.0.0.1:99" {
		t.Errorf("--dev with a port listens on %s", c.Listen)
	}
}

// TestMetricsToken: an address beyond loopback needs a token that cannot be guessed.
func TestMetricsToken(t *testing.T) {
	for _, c := range []struct {
		listen, token string
		fault         string // the setting at fault, "" for none
	}{
		{"127.0.0.1:2584", "", ""},
		{"[::1]:0", "", ""},
		{"localhost:2584", "", ""},
		{"/run/nestbox/metrics", "", ""},
		{":2584", "", "PDS_METRICS_TOKEN"},
		{"192.0.2.1:2584", "", "PDS_METRICS_TOKEN"},
		{"metrics.example.com:2584", "", "PDS_METRICS_TOKEN"},
		{":2584", "0123456789abcdef", ""},
		{":2584", "short", "PDS_METRICS_TOKEN"},
		{"127.0.0.1:2584", "short", "PDS_METRICS_TOKEN"},
	} {
		_, _, err := config.Load(config.Flags{}, required("PDS_METRICS_LISTEN="+c.listen, "PDS_METRICS_TOKEN="+c.token))
		if c.fault == "" {
			if err != nil {
				t.Errorf("%s with %q: %v", c.listen, c.token, err)
			}
			continue
		}
		if err == nil || !slices.Equal(faultsOf(t, err), []string{c.fault}) {
			t.Errorf("%s with %q: %v", c.listen, c.token, err)
		}
	}
	// A command knows no secrets of the server.
	if _, _, err := config.Load(config.Flags{Command: true, Data: t.TempDir()}, []string{"PDS_HOSTNAME=pds.example.com", "PDS_METRICS_LISTEN=:2584"}); err != nil {
		t.Error(err)
	}
}

// faultsOf returns the settings at fault, each once.
func faultsOf(t *testing.T, err error) []string {
	t.Helper()
	faults, ok := errors.AsType[config.Faults](err)
	if !ok {
		t.Fatalf("%v is not of type Faults", err)
	}
	var names []string
	for _, f := range faults {
		if f.Problem == "" || f.Want == "" || slices.Contains(names, f.Setting) {
			t.Errorf("fault %+v", f)
		}
		names = append(names, f.Setting)
	}
	slices.Sort(names)
	return names
}

// TestBadValues: each of them is one fault, of that setting and no other, and its
// message describes a right value.
func TestBadValues(t *testing.T) {
	bad := map[string][]string{
		"PDS_DEV_MODE":                              {"yes", "TRUE", "2"},
		"PDS_HOSTNAME":                              {"https://pds.example.com", "localhost", "pds.example.com:443", "pds_.example.com", "pds.example.com/"},
		"PDS_PORT":                                  {"x", "-1", "65536", "25.83", "99999999999999999999"},
		"PDS_LISTEN":                                {"2583", "localhost", "127.0.0.1:x", "127.0.0.1:65536", "a:b:c"},
		"PDS_SERVICE_DID":                           {"web:pds.example.com", "pds.example.com", "did:"},
		"PDS_DID_PLC_URL":                           {"plc.directory", "ftp://plc.directory", "https://", "http://a b", "embedded"},
		"PDS_SERVICE_HANDLE_DOMAINS":                {"example.com", ".exa mple.com", ".example.com,example.org", "."},
		"PDS_HANDLE_BACKUP_NAMESERVERS":             {"a b", "1.1.1.1:x", "https://1.1.1.1", "9.9.9.9,dns:0"},
		"PDS_INVITE_REQUIRED":                       {"no"},
		"PDS_LEXICON_AUTHORITY_DID":                 {"plc:x", "example.com", "did:"},
		"PDS_MOD_SERVICE_DID":                       {"plc:x", "mod.example.com", "did:"},
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": {"secret-hunter2", "00", strings.Repeat("00", 32), strings.Repeat("ff", 32)},
		"PDS_RECOVERY_DID_KEY":                      {"zQ3sh", "did:key:z", "did:plc:ewvi7nxzyoun6zhxrhs64oiz"},
		"PDS_EMAIL_SMTP_URL":                        {"mail.example.com", "https://hunter2@mail.example.com", "smtps://", "smtp://%zz:hunter2@host"},
		"PDS_EMAIL_FROM_ADDRESS":                    {"pds", "pds@", "a@b@c"},
		"PDS_EMAIL_SMTP_CA_FILE":                    {"testdata/missing.pem", "load_test.go"},
		"PDS_ACCESS_TOKEN_TTL":                      {"2", "19m", "0s", "500ms", "-2h", "2 h", "h", "1.5h", "91d"},
		"PDS_REFRESH_TOKEN_TTL":                     {"90", "2h", "1h", "90D", "90 days", "1000000000w"},
		"PDS_SESSION_REUSE_WINDOW":                  {"24", "91d", "1y", "-1h"},
		"PDS_SESSION_REUSE_POLICY":                  {"ignore", "Report"},
		"PDS_SESSION_LIMIT":                         {"0", "-1", "many"},
		"PDS_RATE_LIMITS_ENABLED":                   {"on"},
		"PDS_RATE_LIMIT_BYPASS_IPS":                 {"localhost", "10.0.0.0/33", "10.0.0.1-10.0.0.9"},
		"PDS_ADMIN_PAGES":                           {"on"},
		"PDS_ADMIN_NETWORKS":                        {"localhost", "10.0.0.0/33"},
		"PDS_METRICS_LISTEN":                        {"2584", "localhost", "127.0.0.1:x", "127.0.0.1:65536", "metrics.sock"},
		"PDS_METRICS_TOKEN":                         {"hunter2"},
		"PDS_LOG_DESTINATION":                       {"nestbox.log", "1"},
		"PDS_LOG_MAX_SIZE":                          {"100MB", "-1"},
		"PDS_LOG_KEEP":                              {"-1", "many", "1001"},
		"PDS_LOG_CLIENT":                            {"some", "Full"},
		"PDS_LOG_SAMPLE":                            {"5%", "1.1", "-0.1", "NaN", "Inf"},
		"PDS_STOP_DELAY":                            {"10", "6m"},
		"PDS_DISK_FLOOR":                            {"1GB", "-1"},
		"PDS_TRUSTED_PROXIES":                       {"proxy", "10.0.0.1,,x"},
		"PDS_HOME_URL":                              {"example.com"},
		"PDS_SUPPORT_URL":                           {"mailto:a@example.com"},
		"PDS_PRIVACY_POLICY_URL":                    {"javascript:alert(1)"},
		"PDS_TERMS_OF_SERVICE_URL":                  {"/terms"},
		"PDS_SERVICE_NAME":                          {"Nest: ours", strings.Repeat("x", 65), "a\tb"},
		"PDS_LOGO_URL":                              {"logo.svg"},
		"PDS_HCAPTCHA_SITE_KEY":                     {"two words", "10000000-ffff"}, // the last one alone
		"PDS_HCAPTCHA_SECRET_KEY":                   {"hunter2 ", "hunter2\xff", "hunter2"},
		"PDS_BACKGROUND_LIGHT_URL":                  {"ftp://example.com/a.jpg"},
		"PDS_BACKGROUND_DARK_URL":                   {"https://"},
		"PDS_PRIMARY_COLOR":                         {"red", "#12345", "rgb(1,2,300)", "hsl(1,2,3)", "#fff;}"},
		"PDS_ERROR_COLOR":                           {"x"},
		"PDS_WARNING_COLOR":                         {"x"},
		"PDS_INFO_COLOR":                            {"x"},
		"PDS_SUCCESS_COLOR":                         {"x"},
		"PDS_CONTACT_EMAIL_ADDRESS":                 {"pds", "Me <pds@example.com>"},
		"PDS_ACCEPTING_REPO_IMPORTS":                {"on"},
		"PDS_MAX_REPO_IMPORT_SIZE":                  {"0", "1GB", "-1"},
		"PDS_BLOB_UPLOAD_LIMIT":                     {"0", "5MB", "-1"},
		"PDS_BLOB_QUOTA":                            {"5MB", "-1"},
		"PDS_DPOP_SECRET":                           {"secret-hunter2", "00", strings.Repeat("f", 63), strings.Repeat("f", 66)},
		"PDS_OAUTH_ACCESS_TOKEN_TTL":                {"30m", "4m", "1h", "25"},
		"PDS_OAUTH_REFRESH_TOKEN_TTL":               {"181d", "13d"},
		"PDS_OAUTH_PUBLIC_SESSION_TTL":              {"15d", "1m"},
		"PDS_OAUTH_SESSION_TTL":                     {"20m", "3651d"},
		"PDS_OAUTH_TRUSTED_CLIENTS":                 {"app.example.com", "https://a.example/x.json,b"},
		"PDS_CRAWLERS":                              {"bsky.network", "https://a.example,ftp://b.example"},
		"PDS_REPORT_SERVICE_URL":                    {"reports.example.com", "ftp://reports.example.com"},
		"PDS_REPORT_SERVICE_DID":                    {"plc:x", "did:", "did:web:reports.example.com"},                                                             // the last one alone
		"PDS_MOD_SERVICE_URL":                       {"mod.example.com", "https://mod.example.com"},                                                               // the last one alone
		"PDS_BSKY_APP_VIEW_URL":                     {"api.example.com", "https://api.example.com/xrpc", "https://me@api.example.com", "https://api.example.com"}, // the last one alone
		"PDS_BSKY_APP_VIEW_DID":                     {"plc:x", "did:"},
		"PDS_BSKY_APP_VIEW_CDN_URL_PATTERN":         {"https://cdn.example.com", "https://cdn.example.com/%s/%s", "https://cdn.example.com/%s/%s/%s/%s", "%s/%s/%s"},
		"PDS_PROXY_HEADERS_TIMEOUT":                 {"0", "-1", "10s", "300001"},
		"PDS_PROXY_BODY_TIMEOUT":                    {"0", "30s", "300001"},
		"PDS_PROXY_MAX_RESPONSE_SIZE":               {"0", "-1", "1MB"},
		"PDS_PROXY_ALLOW_HTTP2":                     {"yes"},
		"PDS_SIGNUP":                                {"Open", "yes", "invite-only"},
		"PDS_SIGNUPS_PER_HOUR":                      {"-1", "many", "1000000001"},
		"PDS_RELAY_ACCOUNT_LIMIT":                   {"-1", "many", "1000000001"},
		"PDS_INVITE_INTERVAL":                       {"1d", "-1", "9223372036854775807"},
		"PDS_INVITE_EPOCH":                          {"2026-01-01", "-1", "9223372036854775807"},
		"PDS_REPO_BACKFILL_LIMIT_MS":                {"0", "1d", "-1", "9223372036854775807"},
		"PDS_FIREHOSE_MAX_BYTES":                    {"0", "1GB", "-1"},
		"PDS_FIREHOSE_GUARD":                        {"Stop", "ignore"},
		"PDS_BACKUP_TO":                             {"data/backups"},
		"PDS_BACKUP_SNAPSHOT_EVERY":                 {"59s", "0", "daily"},
		"PDS_BACKUP_RECIPIENT":                      {"age1x", "ssh-ed25519 AAAA"},
		"PDS_BACKUP_KEEP":                           {"7", "daily=x"},
		"PDS_BACKUP_S3_ENDPOINT":                    {"s3.example.com", "s3://bucket"},
		"PDS_BACKUP_S3_FORCE_PATH_STYLE":            {"yes"},
		"PDS_LOG_LEVEL":                             {"trace", "INFO"},
		"PDS_LOG_FORMAT":                            {"xml"},
	}
	// These accept any text.
	free := []string{
		"PDS_DATA_DIRECTORY", "PDS_ADMIN_PASSWORD", "PDS_JWT_SECRET", "PDS_RATE_LIMIT_BYPASS_KEY",
		"PDS_HCAPTCHA_TOKEN_SALT", "PDS_RESTORE_FROM", "PDS_RESTORE_IDENTITY_FILE", "PDS_BACKUP_S3_REGION", "PDS_BACKUP_S3_ACCESS_KEY_ID", "PDS_BACKUP_S3_SECRET_ACCESS_KEY",
		"PDS_BLOBSTORE_DISK_LOCATION", "PDS_BLOBSTORE_DISK_TMP_LOCATION", "PDS_KEY_ENCRYPTION_KEY_FILE",
	}
	all := required()
	var names []string
	for f := range reflect.TypeFor[config.Config]().Fields() {
		name := f.Tag.Get("env")
		if slices.Contains(free, name) {
			continue
		}
		if len(bad[name]) == 0 {
			t.Errorf("%s has no row", name)
			continue
		}
		for _, raw := range bad[name] {
			want := []string{name}
			if name == "PDS_ACCESS_TOKEN_TTL" && raw == "91d" {
				want = []string{"PDS_REFRESH_TOKEN_TTL"} // one of the two must change
			}
			c, _, err := config.Load(config.Flags{}, required(name+"="+raw))
			if err == nil {
				t.Errorf("%s=%s was taken", name, raw)
				continue
			}
			if got := faultsOf(t, err); !slices.Equal(got, want) {
				t.Errorf("%s=%s: faults of %q: %v", name, raw, got, err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s=%s: a secret shows: %v", name, raw, err)
			}
			if !reflect.DeepEqual(c, config.Config{}) {
				t.Errorf("%s=%s: a Config with faults was returned", name, raw)
			}
		}
		if name != "PDS_DEV_MODE" {
			all = append(all, name+"="+bad[name][0])
			names = append(names, name)
		}
	}

	// All of them at once.
	slices.Sort(names)
	_, _, err := config.Load(config.Flags{}, all)
	if err == nil {
		t.Fatal("all bad values at once were taken")
	}
	if got := faultsOf(t, err); !slices.Equal(got, names) {
		t.Errorf("all at once: faults of\n%q, want\n%q", got, names)
	}
	for _, name := range names {
		if strings.Count(err.Error(), "\n  "+name+": ") != 1 {
			t.Errorf("%s has no line of its own in %v", name, err)
		}
	}
	if want := fmt.Sprintf("the configuration has %d fault(s):\n", len(names)); !strings.HasPrefix(err.Error(), want) {
		t.Errorf("the error begins %q, want %q", err.Error()[:40], want)
	}
}

func TestMissing(t *testing.T) {
	_, _, err := config.Load(config.Flags{}, nil)
	if got, want := faultsOf(t, err), []string{"PDS_EMAIL_FROM_ADDRESS", "PDS_EMAIL_SMTP_URL", "PDS_HOSTNAME"}; !slices.Equal(got, want) {
		t.Errorf("faults of %q, want %q", got, want)
	}
	if n := strings.Count(err.Error(), "nestbox serve --dev needs none"); n != 3 {
		t.Errorf("%d of 3 say that --dev needs none: %v", n, err)
	}
	// A command on the data directory sends no mail.
	_, _, err = config.Load(config.Flags{Command: true, Data: t.TempDir()}, nil)
	if got, want := faultsOf(t, err), []string{"PDS_HOSTNAME"}; !slices.Equal(got, want) {
		t.Errorf("a command: faults of %q, want %q", got, want)
	}
}

// TestDevListens: a server whose admin password everybody knows does not listen to
// the network.
func TestDevListens(t *testing.T) {
	for listen, good := range map[string]bool{
		"127.0.0.1:0": true, "127.5.5.5:1": true, "localhost:1": true, "[::1]:1": true,
		":2583": false, "0.0.0.0:2583": false, "[::]:1": false, "192.0.2.1:1": false, "example.com:1": false,
	} {
		_, _, err := config.Load(config.Flags{Dev: true, Listen: listen}, nil)
		if (err == nil) != good {
			t.Errorf("%s: %v", listen, err)
		}
		if err != nil && !slices.Equal(faultsOf(t, err), []string{"PDS_LISTEN"}) {
			t.Errorf("%s: %v", listen, err)
		}
	}
}

func TestShortTokensInDevelopment(t *testing.T) {
	if c := load(t, config.Flags{Dev: true}, "PDS_ACCESS_TOKEN_TTL=1s"); c.AccessTokenTTL != time.Second {
		t.Errorf("%s", c.AccessTokenTTL)
	}
}

func TestWarnings(t *testing.T) {
	c, warnings, err := config.Load(config.Flags{EnvFile: envFile(t, "PDS_PRIMARY_COLOR_HUE=1\nPDS_HOSTNAMES=x\n")}, required(
		"PDS_ACCES_TOKEN_TTL=hunter2", "PDS_BLOBSTORE_S3_BUCKET=blobs", "PDS_REDIS_SCRATCH_ADDRESS=hunter2", "PDS_EMPTY=", "OTHER=x", "NPDS_X=y"))
	if err != nil || c.Hostname != "pds.example.com" {
		t.Fatal(err)
	}
	want := []string{
		"unknown settings are ignored: PDS_ACCES_TOKEN_TTL PDS_HOSTNAMES",
		"settings of the reference that have no effect here yet: PDS_BLOBSTORE_S3_BUCKET PDS_PRIMARY_COLOR_HUE PDS_REDIS_SCRATCH_ADDRESS",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings\n%q, want\n%q", warnings, want)
	}
}

// TestNoMailServer: a server may do without mail, if its operator says so.
func TestNoMailServer(t *testing.T) {
	c, _, err := config.Load(config.Flags{}, []string{"PDS_HOSTNAME=pds.example.com", "PDS_EMAIL_SMTP_URL=none"})
	if err != nil || c.SendsMail() {
		t.Errorf("sends mail: %t, %v", c.SendsMail(), err)
	}
	if c = load(t, config.Flags{}, required()...); !c.SendsMail() {
		t.Error("a mail server is not used")
	}
	if c = load(t, config.Flags{Dev: true}); c.SendsMail() {
		t.Error("development sends mail through nothing")
	}
	// A command does not need mail; for one about mail, what is given must be right.
	if _, _, err := config.Load(config.Flags{Dev: true, Command: true, Mail: true}, []string{"PDS_EMAIL_SMTP_URL=smtp://"}); err == nil {
		t.Error("a command about mail takes a URL that cannot be meant")
	}
}

// TestSignup: PDS_SIGNUP and the older PDS_INVITE_REQUIRED agree, or are refused
// together.
func TestSignup(t *testing.T) {
	for _, c := range []struct {
		settings []string
		signup   string
		invite   bool
		ok       bool
	}{
		{nil, config.SignupInvite, true, true},
		{[]string{"PDS_INVITE_REQUIRED=false"}, config.SignupOpen, false, true},
		{[]string{"PDS_SIGNUP=open"}, config.SignupOpen, false, true},
		{[]string{"PDS_SIGNUP=invite", "PDS_INVITE_REQUIRED=true"}, config.SignupInvite, true, true},
		{[]string{"PDS_SIGNUP=migration-only"}, config.SignupMigrationOnly, false, true},
		{[]string{"PDS_SIGNUP=migration-only", "PDS_INVITE_REQUIRED=true"}, config.SignupMigrationOnly, true, true},
		{[]string{"PDS_SIGNUP=closed"}, config.SignupClosed, true, true},
		{[]string{"PDS_SIGNUP=closed", "PDS_INVITE_REQUIRED=false"}, config.SignupClosed, true, true},
		{[]string{"PDS_SIGNUP=open", "PDS_INVITE_REQUIRED=true"}, "", false, false},
		{[]string{"PDS_SIGNUP=invite", "PDS_INVITE_REQUIRED=false"}, "", false, false},
	} {
		got, _, err := config.Load(config.Flags{}, required(c.settings...))
		if (err == nil) != c.ok || got.Signup != c.signup || got.InviteRequired != c.invite {
			t.Errorf("%v: %q, invite %t, %v", c.settings, got.Signup, got.InviteRequired, err)
		}
	}
}
