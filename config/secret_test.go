package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nestbox/config"
)

const hunter = "hunter2-which-everybody-takes-for-a-secret"

// secretive returns a configuration in which every secret is hunter2, or contains
// it.
func secretive(t *testing.T, dir string) config.Config {
	t.Helper()
	return load(t, config.Flags{Data: dir}, required(
		"PDS_ADMIN_PASSWORD="+hunter, "PDS_JWT_SECRET="+hunter, "PDS_RATE_LIMIT_BYPASS_KEY="+hunter, "PDS_EMAIL_SMTP_URL=smtps://u:"+hunter+"@host",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+strings.Repeat("01", 32))...)
}

// TestSecretsNeverPrint: no secret shows, in whatever way a Config, or a part of
// it, is printed.
func TestSecretsNeverPrint(t *testing.T) {
	c := secretive(t, "data")
	var logged bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil)} {
		slog.New(h).Info("config", slog.Any("config", c), slog.Any("pointer", &c), slog.Any("secret", c.JWTSecret), slog.Any("list", []config.Secret{c.JWTSecret}))
	}
	printed := map[string]string{"slog": logged.String()}
	for _, v := range []any{c, &c, c.JWTSecret, &c.JWTSecret, []config.Secret{c.JWTSecret}, map[string]config.Secret{"a": c.JWTSecret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
			printed[fmt.Sprintf("%T as %s", v, verb)] = fmt.Sprintf(verb, v)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		printed[fmt.Sprintf("%T as JSON", v)] = string(raw)
	}
	for how, text := range printed {
		for _, secret := range []string{hunter, fmt.Sprintf("%x", hunter), fmt.Sprintf("%X", hunter), strings.Repeat("01", 32)} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows a secret: %s", how, text)
			}
		}
		if !strings.HasSuffix(how, "%T") && !strings.Contains(text, "REDACTED") {
			t.Errorf("%s: %s", how, text)
		}
	}
	if c.JWTSecret.Reveal() != hunter || !c.JWTSecret.IsSet() || (config.Secret{}).IsSet() {
		t.Error("the secret itself is gone")
	}
}

// TestRemember: a command on the data directory acts for the server that ran there
// last, whose secrets are not stored.
func TestRemember(t *testing.T) {
	dir := t.TempDir()
	secrets, others := settings(true), settings(false)
	c := load(t, config.Flags{Data: dir}, append(required(secrets...), others...)...)
	if err := c.Remember(); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	path := filepath.Join(dir, files[0].Name())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %s, %v", info.Mode(), err)
	}
	for _, secret := range secrets {
		// It is remembered that it was given.
		if name, value, _ := strings.Cut(secret, "="); !strings.Contains(string(raw), name) || strings.Contains(string(raw), `: "`+value+`"`) {
			t.Errorf("%s is in %s", secret, raw)
		}
	}

	recalled := load(t, config.Flags{Command: true, Data: dir})
	for f := range reflect.TypeFor[config.Config]().Fields() {
		name := f.Tag.Get("env")
		got, want := field(t, recalled, name), field(t, c, name)
		if _, secret := want.(config.Secret); secret {
			want = config.Secret{}
		}
		if name == "PDS_LISTEN" {
			want = ":8080" // made from the port
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: recalled %v, want %v", name, got, want)
		}
	}

	keys := []string{"PDS_JWT_SECRET", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"}
	forgotten := recalled.Forgotten()
	slices.Sort(forgotten)
	if !slices.Equal(forgotten, keys) || len(c.Forgotten()) != 0 {
		t.Errorf("forgotten %q, want %q; with them %q", forgotten, keys, c.Forgotten())
	}

	// The command's own settings win; a server recalls nothing.
	if c := load(t, config.Flags{Command: true, Data: dir}, "PDS_SESSION_LIMIT=7"); c.SessionLimit != 7 || c.Hostname != "other.example.com" {
		t.Errorf("told: %+v", c)
	}
	if c := load(t, config.Flags{Data: dir}, required()...); c.Hostname != "pds.example.com" || c.Port != 2583 {
		t.Errorf("a server recalled: %+v", c)
	}
	if err := os.WriteFile(path, raw[:len(raw)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Load(config.Flags{Command: true, Data: dir}, nil); err == nil || !strings.Contains(err.Error(), "PDS_HOSTNAME") {
		t.Errorf("a damaged memory: %v", err)
	}
	c.DataDirectory = filepath.Join(dir, "no", "such")
	if err := c.Remember(); err == nil {
		t.Error("remembered in a folder that is not there")
	}
}

// settings returns NAME=value pairs of every setting that is, or is not, a secret.
func settings(secret bool) []string {
	var out []string
	for name, s := range everySetting() {
		if _, is := s.want.(config.Secret); is == secret && name != "PDS_DATA_DIRECTORY" {
			out = append(out, name+"="+s.raw)
		}
	}
	return out
}
