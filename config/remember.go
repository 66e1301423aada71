package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// rememberedName is the file of the data directory that has the settings of its
// last server, without secrets, so that a command on the directory acts for the
// same server.
const rememberedName = "last_settings.json"

// Remember stores the settings in the data directory; for secrets only that they
// were given.
func (c *Config) Remember() error {
	values := map[string]string{}
	v := reflect.ValueOf(*c)
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("env")
		if text, ok := format(v.Field(i).Interface()); ok && name != "PDS_DATA_DIRECTORY" && name != "PDS_LISTEN" {
			values[name] = text
		}
	}
	data, err := json.MarshalIndent(values, "", "  ")
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	return durable.WriteFile(filepath.Join(c.DataDirectory, rememberedName), append(data, '\n'), 0o600)
}

// format reverses setField, except for secrets, which print REDACTED; false for one
// that is not set.
func format(value any) (string, bool) {
	switch f := value.(type) {
	case string:
		return f, true
	case bool:
		return strconv.FormatBool(f), true
	case int:
		return strconv.Itoa(f), true
	case int64:
		return strconv.FormatInt(f, 10), true
	case float64:
		return strconv.FormatFloat(f, 'g', -1, 64), true
	case time.Duration:
		return strconv.FormatInt(f.Milliseconds(), 10) + "ms", true
	case []string:
		return strings.Join(f, ","), true
	case []netip.Prefix:
		var parts []string
		for _, p := range f {
			parts = append(parts, p.String())
		}
		return strings.Join(parts, ","), true
	case Secret:
		return redacted, f.IsSet()
	default:
		return "", false
	}
}

// recall fills what values lack from the settings of the data directory's last
// server. Without the file it fills nothing.
func recall(values map[string]string) {
	for name, v := range remembered(dataDirectory(values)) {
		if _, given := values[name]; !given && v != "" && v != redacted {
			values[name] = v
		}
	}
}

// dataDirectory returns the data directory that values name.
func dataDirectory(values map[string]string) string {
	if dir := values["PDS_DATA_DIRECTORY"]; dir != "" {
		return dir
	}
	f, _ := reflect.TypeFor[Config]().FieldByName("DataDirectory")
	return f.Tag.Get("default")
}

// remembered reads what Remember stored: nothing if there is no such file, or it is
// damaged; the command will then ask for what it lacks.
func remembered(dir string) map[string]string {
	data, err := os.ReadFile(filepath.Join(dir, rememberedName)) //nolint:gosec // the operator's own data directory
	var old map[string]string
	if err != nil || json.Unmarshal(data, &old) != nil {
		return nil
	}
	return old
}

// Forgotten returns the names of the keys that the last server of the data
// directory was given and this configuration lacks: a command without them would
// make others, and sign with those.
func (c *Config) Forgotten() []string {
	old := remembered(c.DataDirectory)
	var names []string
	for name, key := range map[string]Secret{"PDS_JWT_SECRET": c.JWTSecret, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": c.PLCRotationKey} {
		if old[name] == redacted && !key.IsSet() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
