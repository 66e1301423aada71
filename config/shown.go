package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Origin is where a setting's value comes from.
type Origin string

// The origins, the strongest first.
const (
	FromFlag        Origin = "flag"
	FromEnvironment Origin = "environment"
	FromFile        Origin = "file"
	FromDefault     Origin = "default"
)

// Shown is a setting as an operator may see it.
type Shown struct {
	Name, Group string
	// Value is the one that holds; empty for a secret, of which only Set is known.
	Value  string
	Secret bool
	Set    bool
	Origin Origin
}

// Origins returns where the settings come from that Load reads of the same flags and environ.
// Those that it lacks have their defaults.
func Origins(flags Flags, environ []string) map[string]Origin {
	var ignored Faults // Load has reported them
	out := map[string]Origin{}
	for name := range fileValues(flags.EnvFile, &ignored) {
		out[name] = FromFile
	}
	for _, kv := range environ {
		if name, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(name, "PDS_") && v != "" {
			out[name] = FromEnvironment
		}
	}
	for name, given := range map[string]bool{
		"PDS_DEV_MODE": flags.Dev, "PDS_DATA_DIRECTORY": flags.Data != "", "PDS_LISTEN": flags.Listen != "",
	} {
		if given {
			out[name] = FromFlag
		}
	}
	return out
}

// Shown returns every setting, in the order of Config, without secrets.
func (c *Config) Shown(origins map[string]Origin) (out []Shown) {
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		s := Shown{Name: tag.Get("env"), Group: tag.Get("group"), Origin: FromDefault}
		if origin, ok := origins[s.Name]; ok {
			s.Origin = origin
		}
		switch value := v.Field(i).Interface().(type) {
		case Secret:
			s.Secret, s.Set = true, value.IsSet()
		case []string:
			s.Value = strings.Join(value, ", ")
		default:
			s.Value = strings.Trim(fmt.Sprint(value), "[]")
		}
		s.Set = s.Set || s.Value != ""
		out = append(out, s)
	}
	return out
}
