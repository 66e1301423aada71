package backup

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
)

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// keyFile is a key in the file of Service.KeysApart.
type keyFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

func encodeKeys(files []keyFile) ([]byte, error) {
	raw, err := json.MarshalIndent(map[string]any{"nestbox-keys": files}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the keys: %w", err)
	}
	return append(raw, '\n'), nil
}

// decodeKeys reads what encodeKeys wrote.
func decodeKeys(raw []byte) ([]keyFile, error) {
	var in struct {
		Keys []keyFile `json:"nestbox-keys"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.Keys == nil {
		return nil, fmt.Errorf("it is not a file that nestbox backup --keys-apart wrote: %w", err)
	}
	for _, f := range in.Keys {
		if err := checkName(f.Name); err != nil {
			return nil, err
		}
	}
	return in.Keys, nil
}

// checkName refuses the name of a file that would lie outside of the data directory.
func checkName(name string) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the snapshot has a file named %q, outside of the data directory: %w", name, ErrDamaged)
	}
	return nil
}
