package metrics

import "github.com/prometheus/client_golang/prometheus"

// Family is a metric whose values are read when Prometheus asks: what is counted or measured
// elsewhere anyway.
type Family struct {
	Name, Help string
	Labels     []string
	kind       prometheus.ValueType
}

// Sample is one value of a family.
type Sample struct {
	family *Family
	value  float64
	labels []string
}

// Of returns a sample: its labels are in the order of Labels, and each is a word of the program
// or of its settings, never a client's.
func (f *Family) Of(value float64, labels ...string) Sample { return Sample{f, value, labels} }

func counter(name, help string, labels ...string) Family {
	return Family{name, help, labels, prometheus.CounterValue}
}

func gauge(name, help string, labels ...string) Family {
	return Family{name, help, labels, prometheus.GaugeValue}
}

// Families are all of them: those who have the values name a family by its field.
type Families struct {
	Active, Build, Accounts, Commits, Records, Imports                             Family
	BlobBytes, BlobFiles, BlobUploads, BlobGarbage                                 Family
	FirehoseSeq, Subscribers, SlowestLag, Dropped, LogBytes, LogOldest             Family
	RelaySeq, RelayAccounts, RelayStatus                                           Family
	DBBytes, DBFreePages, MailQueue, Mail, RateLimited, DiskFree, ClockSkew, Ready Family
	BackupSuccess, BackupInterval                                                  Family
}

// NewFamilies returns the families, with the names and the words of docs/operations.md.
func NewFamilies() *Families {
	return &Families{
		Active: gauge("http_server_active_requests", "Requests being answered, streams among them."),
		Build:  gauge("nestbox_build_info", "The running version: always 1.", "version", "goversion"),
		Accounts: gauge("nestbox_accounts", "Accounts by hosting status, counted every five minutes.",
			"status"),
		Commits:     counter("nestbox_repo_commits_total", "Commits that calls made to repositories."),
		Records:     counter("nestbox_records_written_total", "Records that calls created, updated and deleted.", "action"),
		Imports:     counter("nestbox_import_total", "Imports of repositories, by how they ended.", "outcome"),
		BlobBytes:   gauge("nestbox_blob_bytes", "Size of all blobs, counted every five minutes."),
		BlobFiles:   gauge("nestbox_blob_files", "Number of all blobs, counted every five minutes."),
		BlobUploads: counter("nestbox_blob_uploads_total", "Blobs that were uploaded."),
		BlobGarbage: gauge("nestbox_blob_garbage_files", "Files of blobs that are to be removed."),

		FirehoseSeq: gauge("nestbox_firehose_seq", "Number of the newest event of the event stream."),
		Subscribers: gauge("nestbox_firehose_subscribers", "Subscribers of the event stream."),
		SlowestLag:  gauge("nestbox_firehose_slowest_lag_events", "Events by which the slowest subscriber is behind."),
		Dropped:     counter("nestbox_firehose_dropped_total", "Subscriptions that the server ended, by reason.", "reason"),
		LogBytes:    gauge("nestbox_firehose_log_bytes", "Size of the events that are kept."),
		LogOldest:   gauge("nestbox_firehose_log_oldest_timestamp_seconds", "When the oldest event that is kept was written; 0 for none."),

		RelaySeq: gauge("nestbox_relay_seq", "Number of the last event that a relay of PDS_CRAWLERS has, asked every five minutes.",
			"relay"),
		RelayAccounts: gauge("nestbox_relay_accounts", "Accounts of this server that a relay counts.", "relay"),
		RelayStatus:   gauge("nestbox_relay_host_status", "What a relay says of this server: 1 for the status that it has.", "relay", "status"),

		DBBytes:     gauge("nestbox_db_bytes", "Size of the database's files.", "file"),
		DBFreePages: gauge("nestbox_db_free_pages", "Pages of the database file that hold nothing."),
		MailQueue:   gauge("nestbox_mail_queue", "Mails that wait to be sent."),
		Mail:        counter("nestbox_mail_total", "Attempts to send a mail, by how they ended.", "outcome"),
		RateLimited: counter("nestbox_ratelimited_total", "Attempts that a rate limit refused, by limit.", "limit"),
		DiskFree:    gauge("nestbox_disk_free_bytes", "Free space of the disks of the data directory and of the blobs.", "disk"),
		ClockSkew:   gauge("nestbox_clock_skew_seconds", "Seconds by which the clock is ahead of what the server expects."),
		Ready:       gauge("nestbox_ready", "Whether /readyz answers 200."),

		BackupSuccess: gauge("nestbox_backup_last_success_timestamp_seconds", "When a backup last succeeded.", "kind"),
		BackupInterval: gauge("nestbox_backup_interval_seconds", "How often the server itself is set to do it; absent if it is not.",
			"kind"),
	}
}
