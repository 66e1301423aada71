package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// rememberedName is the file of the data directory that holds the settings of
// its last server, without secrets: so that a command on the directory means
// the same server.
const rememberedName = "last_settings.json"

// Remember stores the settings, without secrets, in the data directory.
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

// format is the reverse of setField; false for secrets.
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
	default:
		return "", false
	}
}

// recall fills what values lack from what the last server of the data directory
// was given. Without such a file there is nothing to recall.
func recall(values map[string]string) {
	dir := values["PDS_DATA_DIRECTORY"]
	if dir == "" {
		f, _ := reflect.TypeFor[Config]().FieldByName("DataDirectory")
		dir = f.Tag.Get("default")
	}
	data, err := os.ReadFile(filepath.Join(dir, rememberedName)) //nolint:gosec // the operator's own data directory
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var old map[string]string
	if err != nil || json.Unmarshal(data, &old) != nil {
		return // damaged: the command will ask for what it lacks
	}
	for name, v := range old {
		if _, given := values[name]; !given && v != "" {
			values[name] = v
		}
	}
}
