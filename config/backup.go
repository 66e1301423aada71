package config

import (
	"fmt"
	"strings"
	"time"

	"filippo.io/age"

	"nestbox/backup"
)

// S3 is how the bucket of backups is reached.
type S3 struct {
	Region, Endpoint, AccessKey string
	SecretKey                   Secret
	PathStyle                   bool
}

// BackupS3 returns how the bucket of backups is reached.
func (c *Config) BackupS3() S3 {
	return S3{c.BackupS3Region, c.BackupS3Endpoint, c.BackupS3AccessKey, c.BackupS3SecretKey, c.BackupS3PathStyle}
}

// LoadS3 reads these settings alone, for a machine that has no server yet: from environ, as
// os.Environ returns it, and the file that flags name.
func LoadS3(flags Flags, environ []string) (S3, error) {
	var faults Faults
	values := fileValues(flags.EnvFile, &faults)
	for _, kv := range environ {
		if name, v, ok := strings.Cut(kv, "="); ok && v != "" {
			values[name] = v
		}
	}
	for name := range values {
		if !strings.HasPrefix(name, "PDS_BACKUP_S3_") {
			delete(values, name)
		}
	}
	var c Config
	c.set(values, &faults)
	c.checkBackup(&faults)
	if len(faults) > 0 {
		return S3{}, faults
	}
	return c.BackupS3(), nil
}

// minBackupEvery is the least of PDS_BACKUP_SNAPSHOT_EVERY.
const minBackupEvery = time.Minute

// minLogEvery is the least of PDS_BACKUP_LOG_EVERY, if it is not 0.
const minLogEvery = time.Second

// checkBackup reports faults of the settings of backups.
func (c *Config) checkBackup(f *Faults) {
	if c.BackupEvery < minBackupEvery {
		f.add("PDS_BACKUP_SNAPSHOT_EVERY", "it is under a minute", "write a duration like 24h")
	}
	if c.BackupLogEvery != 0 && c.BackupLogEvery < minLogEvery {
		f.add("PDS_BACKUP_LOG_EVERY", "it is under a second", "write a duration like 10s, or 0 to send nothing between snapshots")
	}
	for _, name := range c.BackupRecipients {
		if _, err := age.ParseRecipients(strings.NewReader(name)); err != nil {
			f.add("PDS_BACKUP_RECIPIENT", fmt.Sprintf("%q is not a public key of age", name), "write one like age1…, as age-keygen prints it")
			break
		}
	}
	if _, err := backup.ParseKeep(c.BackupKeep); err != nil {
		f.add("PDS_BACKUP_KEEP", fmt.Sprintf("%q cannot be read", c.BackupKeep), "write how many to keep like daily=7,weekly=4,monthly=6")
	}
	switch bucket := strings.HasPrefix(c.BackupTo, "s3://"); {
	case c.BackupTo == "":
	case bucket && len(c.BackupRecipients) == 0:
		f.add("PDS_BACKUP_RECIPIENT", "it is not set, and anybody with access to the bucket would have the keys of all accounts",
			"write a public key of age")
	case !bucket && Below(c.DataDirectory, c.BackupTo):
		f.add("PDS_BACKUP_TO", "the backup would be lost with the data directory", "name a folder outside of it, on another disk")
	}
	if e := c.BackupS3Endpoint; e != "" && !isURL(e) {
		f.add("PDS_BACKUP_S3_ENDPOINT", "it is not a URL", "write one like https://s3.eu-central-1.amazonaws.com")
	}
	if (c.BackupS3AccessKey == "") != !c.BackupS3SecretKey.IsSet() {
		f.add("PDS_BACKUP_S3_SECRET_ACCESS_KEY", "it and PDS_BACKUP_S3_ACCESS_KEY_ID belong together", "set both")
	}
}
