package config_test

import (
	"slices"
	"testing"

	"nestbox/config"
)

// TestLoadS3: a machine without a server reads these settings alone, and faults of others are
// none of its business.
func TestLoadS3(t *testing.T) {
	file := envFile(t, "PDS_HOSTNAME=no host name\nPDS_BACKUP_S3_REGION=eu-central-1\nPDS_BACKUP_S3_ACCESS_KEY_ID=key\n")
	got, err := config.LoadS3(config.Flags{EnvFile: file}, []string{"PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret", "PDS_PORT=x"})
	if err != nil || got.Region != "eu-central-1" || got.AccessKey != "key" || got.SecretKey.Reveal() != "secret" || got.PathStyle {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = config.LoadS3(config.Flags{EnvFile: file}, nil)
	if err == nil || !slices.Equal(faultsOf(t, err), []string{"PDS_BACKUP_S3_SECRET_ACCESS_KEY"}) {
		t.Errorf("half a pair of keys: %v", err)
	}
	if _, _, err := config.Load(config.Flags{}, required("PDS_BACKUP_TO=s3://bucket/nest")); err == nil {
		t.Error("a bucket without a recipient was taken")
	}
	if _, _, err := config.Load(config.Flags{}, required("PDS_BACKUP_S3_SECRET_ACCESS_KEY=secret")); err == nil {
		t.Error("half a pair of keys was taken")
	}
}
