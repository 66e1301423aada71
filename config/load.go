package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Fault is one thing wrong with a configuration.
type Fault struct {
	Setting string
	Problem string
	Want    string
}

// Faults is every fault of a configuration.
type Faults []Fault

func (f Faults) Error() string {
	lines := []string{fmt.Sprintf("the configuration has %d fault(s):", len(f))}
	for _, one := range f {
		lines = append(lines, fmt.Sprintf("  %s: %s; %s", one.Setting, one.Problem, one.Want))
	}
	return strings.Join(lines, "\n")
}

func (f *Faults) add(setting, problem, want string) {
	*f = append(*f, Fault{setting, problem, want})
}

// Load reads the configuration from flags, environ (as os.Environ returns it) and
// the environment file that flags name. The warnings are lines for the log; an
// error is of type Faults and has everything that is wrong.
func Load(flags Flags, environ []string) (Config, []string, error) {
	var faults Faults
	values := gather(flags, environ, &faults)
	flags.Inherits = flags.Inherits || settle(values, &faults)
	return build(values, flags, faults)
}

// IsDevelopment reports whether the settings ask for a server in development, whatever else is wrong with them.
func IsDevelopment(flags Flags, environ []string) bool {
	var faults Faults // Load returns them
	dev, err := parseBool(gather(flags, environ, &faults)["PDS_DEV_MODE"])
	return err == nil && dev
}

// gather collects the settings that are given, the strongest of each.
func gather(flags Flags, environ []string, faults *Faults) map[string]string {
	values := fileValues(flags.EnvFile, faults)
	for _, kv := range environ {
		// An empty variable counts as not set, as in the reference.
		if name, v, ok := strings.Cut(kv, "="); ok && ours(name) && v != "" {
			values[name] = v
		}
	}
	alias(values)
	if flags.Dev {
		values["PDS_DEV_MODE"] = "true"
	}
	if flags.Data != "" {
		values["PDS_DATA_DIRECTORY"] = flags.Data
	}
	if flags.Listen != "" {
		values["PDS_LISTEN"] = flags.Listen
	}
	return values
}

// The reference's settings of its log, which have no PDS_ in front of them.
const (
	aliasEnabled     = "LOG_ENABLED"
	aliasLevel       = "LOG_LEVEL"
	aliasDestination = "LOG_DESTINATION"
)

// ours reports whether a name is one of this server's settings, or of the reference's.
func ours(name string) bool {
	return strings.HasPrefix(name, "PDS_") || name == aliasEnabled || name == aliasLevel || name == aliasDestination
}

// alias puts the reference's settings of its log in the place of ours that are not given. Its log
// can be off; here errors remain.
func alias(values map[string]string) {
	level, destination := values[aliasLevel], values[aliasDestination]
	switch {
	case values[aliasEnabled] == "false", values[aliasEnabled] == "0", level == "fatal", level == "silent":
		level = "error"
	case level == "trace":
		level = "debug"
	}
	if destination == "1" || destination == "2" { // its standard output and error
		destination = ""
	}
	if abs, err := filepath.Abs(destination); err == nil && destination != "" {
		destination = abs
	}
	for name, v := range map[string]string{"PDS_LOG_LEVEL": level, "PDS_LOG_DESTINATION": destination} {
		if values[name] == "" && v != "" {
			values[name] = v
		}
	}
	for _, name := range []string{aliasEnabled, aliasLevel, aliasDestination} {
		delete(values, name)
	}
}

// build makes the configuration of values; faults are those found before.
func build(values map[string]string, flags Flags, faults Faults) (Config, []string, error) {
	if flags.Command {
		recall(values)
	}
	var c Config
	if v, ok := values["PDS_DEV_MODE"]; ok {
		if dev, err := parseBool(v); err == nil {
			c.DevMode = dev // the defaults below depend on it
		}
	}
	c.set(values, &faults)
	c.admit(values, &faults)
	c.derive()
	c.check(&faults, flags)
	if len(faults) > 0 {
		return Config{}, nil, faults
	}
	lines := warnings(values)
	if k := c.JWTSecret; flags.Inherits && k.IsSet() && len(k.Reveal()) < minSecret {
		lines = append(lines, fmt.Sprintf("PDS_JWT_SECRET is shorter than %d bytes: "+
			"it only verifies tokens of the old server, and another key signs", minSecret))
	}
	return c, lines, nil
}

func fileValues(path string, faults *Faults) map[string]string {
	if path == "" {
		return map[string]string{}
	}
	data, err := os.ReadFile(path) //nolint:gosec // the file that the operator named
	if err != nil {
		faults.add("--env-file", err.Error(), "name a file that can be read")
		return map[string]string{}
	}
	values, bad := ParseEnvFile(string(data))
	for _, line := range bad {
		faults.add(fmt.Sprintf("%s:%d", path, line), "this line is no setting", "write NAME=value, or # before a comment")
	}
	for name, v := range values {
		// The reference's file also has settings of other programs.
		if v == "" || !ours(name) {
			delete(values, name)
		}
	}
	return values
}

// set fills the fields from values, or from the defaults in their tags.
func (c *Config) set(values map[string]string, faults *Faults) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		name := tag.Get("env")
		fallback := tag.Get("default")
		if dev, ok := tag.Lookup("dev"); ok && c.DevMode {
			fallback = dev
		}
		raw, given := values[name]
		if !given {
			raw = fallback
		}
		field := v.Field(i).Addr().Interface()
		err := setField(field, raw)
		if err == nil {
			continue
		}
		shown := fmt.Sprintf("%q", raw)
		if _, secret := reflect.TypeAssert[Secret](v.Field(i)); secret {
			shown = redacted
		}
		faults.add(name, shown+" cannot be used", err.Error())
		// Its fault is recorded: further checks assume the default.
		if err := setField(field, fallback); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", name, err))
		}
	}
}

// The values of PDS_SIGNUP.
const (
	SignupOpen          = "open"
	SignupInvite        = "invite"
	SignupMigrationOnly = "migration-only"
	SignupClosed        = "closed"
)

// admit makes PDS_SIGNUP and PDS_INVITE_REQUIRED agree.
func (c *Config) admit(values map[string]string, f *Faults) {
	_, given := values["PDS_INVITE_REQUIRED"]
	switch c.Signup {
	case "":
		if c.Signup = SignupOpen; c.InviteRequired {
			c.Signup = SignupInvite
		}
	case SignupOpen, SignupInvite:
		required := c.Signup == SignupInvite
		if given && c.InviteRequired != required {
			f.add("PDS_SIGNUP", fmt.Sprintf("%s contradicts PDS_INVITE_REQUIRED=%t", c.Signup, c.InviteRequired), "leave one of the two out")
		}
		c.InviteRequired = required
	case SignupMigrationOnly:
		c.InviteRequired = given && c.InviteRequired
	case SignupClosed:
		c.InviteRequired = true // so that clients show no form
	default:
		f.add("PDS_SIGNUP", fmt.Sprintf("%q cannot be used", c.Signup), "write open, invite, migration-only or closed")
		c.Signup = SignupClosed
	}
}

// derive fills what follows from other settings, if those can be used.
func (c *Config) derive() {
	if c.ServiceDID == "" && c.hostnameUsable() {
		c.ServiceDID = "did:web:" + c.Hostname
	}
	if len(c.HandleDomains) == 0 && c.hostnameUsable() {
		c.HandleDomains = []string{"." + c.Hostname}
	}
	for i, d := range c.HandleDomains {
		c.HandleDomains[i] = strings.ToLower(d)
	}
	// A command that takes them from the last server may run in another folder.
	for _, dir := range []*string{&c.BlobDiskLocation, &c.BlobDiskTmpLocation, &c.BackupTo, &c.RestoreFrom} {
		if strings.HasPrefix(*dir, "s3://") {
			continue
		}
		if abs, err := filepath.Abs(*dir); *dir != "" && err == nil {
			*dir = abs
		}
	}
	if c.Listen == "" && c.portUsable() {
		c.Listen = fmt.Sprintf(":%d", c.Port)
		if c.DevMode {
			c.Listen = "127.0.0.1" + c.Listen
		}
	}
	c.PLCURL = strings.TrimRight(c.PLCURL, "/")
}

// laterSettings are settings of the reference, or of its versions before 0.22, that this
// version knows by name and ignores.
const laterSettings = `
PDS_ACCOUNT_DB_LOCATION PDS_ACTOR_STORE_CACHE_SIZE PDS_ACTOR_STORE_DIRECTORY PDS_BLOBSTORE_S3_ACCESS_KEY_ID
PDS_BLOBSTORE_S3_BUCKET PDS_BLOBSTORE_S3_ENDPOINT PDS_BLOBSTORE_S3_FORCE_PATH_STYLE PDS_BLOBSTORE_S3_REGION
PDS_BLOBSTORE_S3_REQUEST_TIMEOUT_MS PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY PDS_BLOBSTORE_S3_UPLOAD_TIMEOUT_MS
PDS_DARK_COLOR PDS_DID_CACHE_DB_LOCATION PDS_DID_CACHE_MAX_TTL PDS_DID_CACHE_STALE_TTL
PDS_DISABLE_SSRF_PROTECTION PDS_EMAIL_DISABLE_CONFIRMATION_LINK PDS_ENABLE_DID_DOC_WITH_SESSION
PDS_ENTRYWAY_ADMIN_TOKEN PDS_ENTRYWAY_DID PDS_ENTRYWAY_JWT_VERIFY_KEY_K256_PUBLIC_KEY_HEX
PDS_ENTRYWAY_PLC_ROTATION_KEY PDS_ENTRYWAY_URL PDS_ERROR_COLOR_CONTRAST PDS_ERROR_COLOR_HUE
PDS_FETCH_MAX_RESPONSE_SIZE
PDS_ID_RESOLVER_TIMEOUT PDS_INFO_COLOR_CONTRAST PDS_INFO_COLOR_HUE PDS_LEXICON_AUTHORITY_DID PDS_LIGHT_COLOR
PDS_MAX_SUBSCRIPTION_BUFFER PDS_MODERATION_EMAIL_ADDRESS PDS_MODERATION_EMAIL_SMTP_URL
PDS_PLC_ROTATION_KEY_KMS_KEY_ID PDS_PRIMARY_COLOR_CONTRAST PDS_PRIMARY_COLOR_HUE PDS_PROXY_MAX_RETRIES
PDS_PROXY_PREFER_COMPRESSED PDS_REDIS_SCRATCH_ADDRESS PDS_REDIS_SCRATCH_PASSWORD PDS_SEQUENCER_DB_LOCATION
PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT PDS_SUCCESS_COLOR_CONTRAST PDS_SUCCESS_COLOR_HUE PDS_VERSION
PDS_WARNING_COLOR_CONTRAST PDS_WARNING_COLOR_HUE`

// warnings returns at most two lines: unknown names, and names that have no effect
// here yet.
func warnings(values map[string]string) []string {
	known := map[string]bool{}
	for f := range reflect.TypeFor[Config]().Fields() {
		known[f.Tag.Get("env")] = true
	}
	later := map[string]bool{}
	for name := range strings.FieldsSeq(laterSettings) {
		later[name] = true
	}
	var unknown, unused []string
	for name := range values {
		switch {
		case known[name]:
		case later[name]:
			unused = append(unused, name)
		default:
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	slices.Sort(unused)
	var out []string
	if len(unknown) > 0 {
		out = append(out, "unknown settings are ignored: "+strings.Join(unknown, " "))
	}
	if len(unused) > 0 {
		out = append(out, "settings of the reference that have no effect here yet: "+strings.Join(unused, " "))
	}
	return out
}
