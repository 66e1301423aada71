package config

import (
	"path/filepath"
	"strings"

	"nestbox/datadir"
)

// checkFolders refuses folders of blobs in which the server would mistake its own
// files for uploads, or uploads for something else.
func (c *Config) checkFolders(f *Faults) {
	data, blobs := realPath(c.DataDirectory), realPath(c.BlobDiskLocation)
	if c.BlobDiskLocation == "" {
		blobs = filepath.Join(data, datadir.BlobsFolder)
	} else {
		checkBeside(f, "PDS_BLOBSTORE_DISK_LOCATION", data, blobs)
	}
	if c.BlobDiskTmpLocation == "" {
		return
	}
	const name = "PDS_BLOBSTORE_DISK_TMP_LOCATION"
	tmp := realPath(c.BlobDiskTmpLocation)
	checkBeside(f, name, data, tmp)
	switch first, inside := below(blobs, tmp); {
	case inside && first == ".":
		f.add(name, "it is the folder of finished uploads", "name another folder on the same file system")
	case inside && len(first) == 2:
		f.add(name, "it is in a folder of finished uploads", "name one like "+filepath.Join(blobs, "tmp"))
	}
}

// checkBeside refuses a folder that contains the data directory, or that is in one
// of its reserved folders.
func checkBeside(f *Faults, name, data, dir string) {
	want := "name a folder of its own, like " + filepath.Join(data, datadir.BlobsFolder)
	if _, holds := below(dir, data); holds {
		f.add(name, "it holds the data directory", want)
		return
	}
	if first, inside := below(data, dir); inside && (first == datadir.TransfersFolder || first == datadir.PLCFolder) {
		f.add(name, "the data directory's folder "+first+" is for something else", want)
	}
}

// below reports whether path is dir or below it, and returns its first part there,
// "." if it is dir.
func below(dir, path string) (first string, ok bool) {
	rel, err := filepath.Rel(dir, path)
	first, _, _ = strings.Cut(rel, string(filepath.Separator))
	return first, err == nil && first != ".."
}

// Below reports whether path is the folder dir or in it, whatever symbolic links there are.
func Below(dir, path string) bool {
	_, ok := below(realPath(dir), realPath(path))
	return ok
}

// NameIn returns the name in the folder dir that leads to path, whatever symbolic links there are; ok is false if
// path is not below it.
func NameIn(dir, path string) (name string, ok bool) {
	name, ok = below(realPath(dir), realPath(path))
	return name, ok && path != "" && name != "."
}

// realPath returns path without symbolic links, as far as it exists.
func realPath(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	for there, rest := abs, ""; ; there, rest = filepath.Dir(there), filepath.Join(filepath.Base(there), rest) {
		if found, err := filepath.EvalSymlinks(there); err == nil {
			return filepath.Join(found, rest)
		}
		if there == filepath.Dir(there) {
			return abs
		}
	}
}
