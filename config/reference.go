package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nestbox/datadir"
)

// Reference is where a reference PDS with these settings keeps its data: full paths, empty
// where its defaults below Data hold.
type Reference struct {
	// Data is PDS_DATA_DIRECTORY, Set as it is written there.
	Data, Set                   string
	Accounts, Events, Documents string
	Actors, Blobs, Uploads      string
	// Unread are settings that take over nothing here: names with what to do.
	Unread []string
	// Bucket is where its blobs are if they are in no folder; its Name is empty otherwise.
	Bucket ReferenceBucket
}

// ReferenceBucket is the bucket of a reference PDS's blobs, and how it is reached.
type ReferenceBucket struct {
	Name string
	S3
}

// referenceSettings are the settings of places that are the source's once its data directory
// was taken over.
const referenceSettings = `PDS_BLOBSTORE_DISK_LOCATION PDS_BLOBSTORE_DISK_TMP_LOCATION PDS_ACCOUNT_DB_LOCATION
PDS_SEQUENCER_DB_LOCATION PDS_DID_CACHE_DB_LOCATION PDS_ACTOR_STORE_DIRECTORY`

func exists(parts ...string) bool {
	_, err := os.Stat(filepath.Join(parts...))
	return err == nil
}

// settle makes values those of the server whose data directory was taken over, if
// PDS_DATA_DIRECTORY is one of the reference: then the directory is the one that was made of
// it, whatever is left of the source, and the other places are the source's. It reports whether
// a server was taken over there.
func settle(values map[string]string, faults *Faults) (settled bool) {
	dir := dataDirectory(values)
	target := filepath.Join(dir, datadir.TakeoverFolder)
	switch {
	case exists(dir, datadir.TakeoverFile):
	case exists(target, datadir.TakeoverFile):
		values["PDS_DATA_DIRECTORY"] = target
	case exists(datadir.Dir(dir).Database()):
		return false
	case exists(datadir.Dir(target).Database()):
		faults.add("PDS_DATA_DIRECTORY", "the take-over of "+dir+" was not finished", takeItOver)
		return false
	case ofReference(values, dir):
		faults.add("PDS_DATA_DIRECTORY", dir+" is the data directory of a reference PDS and was not taken over", takeItOver)
		return false
	default:
		return false
	}
	for name := range strings.FieldsSeq(referenceSettings) {
		delete(values, name)
	}
	return true
}

const takeItOver = "stop that server, and run nestbox takeover --env-file FILE; what it makes is then served with the same file " +
	"(made elsewhere with --to, name that folder)"

// ofReference reports whether a reference PDS has any of its data where the settings say.
func ofReference(values map[string]string, dir string) bool {
	for name, fallback := range map[string]string{
		"PDS_ACCOUNT_DB_LOCATION": "account.sqlite", "PDS_SEQUENCER_DB_LOCATION": "sequencer.sqlite", "PDS_ACTOR_STORE_DIRECTORY": "actors",
	} {
		path := values[name]
		if path == "" {
			path = filepath.Join(dir, fallback)
		}
		if exists(path) {
			return true
		}
	}
	return false
}

// LoadReference reads the settings of a reference PDS, and those of the server that takes
// its place on the data directory target: if that is empty, a folder of the source's. from,
// if it is set, is where the source's data directory lies on this machine: other places below
// PDS_DATA_DIRECTORY lie below it. The faults are those of the settings that are to be
// changed before the new server starts.
func LoadReference(flags Flags, environ []string, from, target string) (c Config, ref Reference, warnings []string, err error) {
	var faults Faults
	values := gather(flags, environ, &faults)
	ref = referenceOf(values, from)
	if ref.Data == "" {
		if len(faults) == 0 { // a file that cannot be read is why it is not set
			faults.add("PDS_DATA_DIRECTORY", "it is not set", "name the source's data directory, or use --from DIR")
		}
		return Config{}, ref, nil, faults
	}
	if target == "" {
		target = filepath.Join(ref.Data, datadir.TakeoverFolder)
	}
	if target, err = filepath.Abs(target); err != nil {
		return Config{}, ref, nil, err
	}
	for name := range strings.FieldsSeq(referenceSettings) {
		delete(values, name)
	}
	values["PDS_DATA_DIRECTORY"] = target
	flags.Inherits = true
	c, warnings, err = build(values, flags, faults)
	return c, ref, warnings, err
}

// referenceOf reads the places of the source.
func referenceOf(values map[string]string, from string) Reference {
	ref := Reference{Set: values["PDS_DATA_DIRECTORY"]}
	if values["PDS_BLOBSTORE_DISK_LOCATION"] == "" {
		ref.Bucket = bucketOf(values)
	}
	if ref.Data = from; from == "" {
		ref.Data = ref.Set
	}
	if ref.Data == "" {
		return ref
	}
	if abs, err := filepath.Abs(ref.Data); err == nil {
		ref.Data = abs
	}
	place := func(name string) string {
		path := values[name]
		if path == "" {
			return ""
		}
		if rel, err := filepath.Rel(ref.Set, path); from != "" && ref.Set != "" && err == nil && filepath.IsLocal(rel) {
			path = filepath.Join(ref.Data, rel)
		}
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		return path
	}
	ref.Accounts, ref.Events = place("PDS_ACCOUNT_DB_LOCATION"), place("PDS_SEQUENCER_DB_LOCATION")
	ref.Documents, ref.Actors = place("PDS_DID_CACHE_DB_LOCATION"), place("PDS_ACTOR_STORE_DIRECTORY")
	ref.Blobs, ref.Uploads = place("PDS_BLOBSTORE_DISK_LOCATION"), place("PDS_BLOBSTORE_DISK_TMP_LOCATION")
	const entryway = "accounts behind an entryway have their passwords and sessions there: " +
		"they cannot be taken over from this server alone"
	for _, s := range []struct{ name, do string }{
		{"PDS_PLC_ROTATION_KEY_KMS_KEY_ID", "a rotation key in AWS KMS cannot be used: set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX, " +
			"and make its key one of the rotation keys of every account first"},
		{"PDS_ENTRYWAY_URL", entryway},
		{"PDS_ENTRYWAY_DID", entryway},
	} {
		if values[s.name] != "" {
			ref.Unread = append(ref.Unread, s.name+": "+s.do)
		}
	}
	slices.Sort(ref.Unread)
	return ref
}

// bucketOf reads where the source's blobs are, if they are in a bucket.
func bucketOf(values map[string]string) ReferenceBucket {
	const prefix = "PDS_BLOBSTORE_S3_"
	b := ReferenceBucket{Name: values[prefix+"BUCKET"], S3: S3{
		Region: values[prefix+"REGION"], Endpoint: values[prefix+"ENDPOINT"], AccessKey: values[prefix+"ACCESS_KEY_ID"],
		SecretKey: NewSecret(values[prefix+"SECRET_ACCESS_KEY"]),
	}}
	b.PathStyle, _ = parseBool(values[prefix+"FORCE_PATH_STYLE"]) // the source takes anything else as false
	return b
}
