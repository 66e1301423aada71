package config_test

import (
	"testing"

	"nestbox/config"
)

// TestShown: every setting is shown with its value and where that comes from, and no secret is.
func TestShown(t *testing.T) {
	file := envFile(t, "PDS_ADMIN_PASSWORD=hunter2hunter2\nPDS_SESSION_LIMIT=12\nPDS_SERVICE_NAME=file\n")
	flags := config.Flags{Dev: true, EnvFile: file, Listen: "127.0.0.1:0"}
	environ := []string{"PDS_SERVICE_NAME=Nest", "PDS_SESSION_LIMIT=", "PDS_ADMIN_NETWORKS=192.0.2.0/24,2001:db8::/32", "OTHER=x"}
	c, _, err := config.Load(flags, environ)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]config.Shown{}
	for _, s := range c.Shown(config.Origins(flags, environ)) {
		if s.Name == "" || s.Group == "" || found[s.Name].Name != "" {
			t.Errorf("%+v", s)
		}
		found[s.Name] = s
	}
	for name, want := range map[string]config.Shown{
		"PDS_ADMIN_PASSWORD":   {Secret: true, Set: true, Origin: config.FromFile},
		"PDS_JWT_SECRET":       {Secret: true, Origin: config.FromDefault},
		"PDS_SESSION_LIMIT":    {Value: "12", Set: true, Origin: config.FromFile},
		"PDS_SERVICE_NAME":     {Value: "Nest", Set: true, Origin: config.FromEnvironment},
		"PDS_ADMIN_NETWORKS":   {Value: "192.0.2.0/24 2001:db8::/32", Set: true, Origin: config.FromEnvironment},
		"PDS_LISTEN":           {Value: "127.0.0.1:0", Set: true, Origin: config.FromFlag},
		"PDS_DEV_MODE":         {Value: "true", Set: true, Origin: config.FromFlag},
		"PDS_ACCESS_TOKEN_TTL": {Value: "2h0m0s", Set: true, Origin: config.FromDefault},
		"PDS_LOGO_URL":         {Origin: config.FromDefault},
	} {
		got := found[name]
		got.Name, got.Group = "", ""
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
