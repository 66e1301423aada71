package config_test

import (
	"slices"
	"strings"
	"testing"

	"nestbox/config"
)

// TestLogAliases: the reference's settings of its log mean here what they mean there, unless ours
// are given.
func TestLogAliases(t *testing.T) {
	for _, c := range []struct {
		environ     []string
		level, file string
	}{
		{nil, "info", ""},
		{[]string{"LOG_ENABLED=true"}, "info", ""},
		{[]string{"LOG_ENABLED=false"}, "error", ""},
		{[]string{"LOG_ENABLED=0", "LOG_LEVEL=debug"}, "error", ""},
		{[]string{"LOG_LEVEL=warn", "LOG_DESTINATION=/pds/pds.log"}, "warn", "/pds/pds.log"},
		{[]string{"LOG_LEVEL=trace", "LOG_DESTINATION=1"}, "debug", ""},
		{[]string{"LOG_LEVEL=silent", "PDS_LOG_LEVEL=info", "LOG_DESTINATION=/a", "PDS_LOG_DESTINATION=/b"}, "info", "/b"},
	} {
		for _, inFile := range []bool{false, true} {
			flags, environ := config.Flags{}, required(c.environ...)
			if inFile {
				flags.EnvFile, environ = envFile(t, strings.Join(c.environ, "\n")), required()
			}
			got := load(t, flags, environ...)
			if got.LogLevel != c.level || got.LogDestination != c.file {
				t.Errorf("%q: %q to %q", c.environ, got.LogLevel, got.LogDestination)
			}
		}
	}
	_, _, err := config.Load(config.Flags{}, required("LOG_LEVEL=loud"))
	if err == nil || !slices.Equal(faultsOf(t, err), []string{"PDS_LOG_LEVEL"}) {
		t.Errorf("a level that is none: %v", err)
	}
}
