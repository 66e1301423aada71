// Package directory is a small did:plc directory for development: the HTTP
// interface of the real one (https://web.plc.directory/api), its rules from
// package plc, and an append-only file that survives a crash.
//
// Invariants: an operation is on disk before it is acknowledged; the state of a log
// (which operations are nullified) follows from the file alone, by applying it again;
// a torn last line, which was never acknowledged, is cut off.
package directory

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/internal/durable"
	"nestbox/plc"
)

// record is one line of the file.
type record struct {
	DID       syntax.DID      `json:"did"`
	Operation json.RawMessage `json:"operation"`
	CreatedAt time.Time       `json:"createdAt"`
}

// Directory is safe for concurrent use.
type Directory struct {
	now func() time.Time

	mu   sync.RWMutex
	file *os.File
	logs map[syntax.DID][]plc.Entry
	// order lists every operation in the order of acceptance, for export.
	order []position
	// broken is set if an append failed half way: nothing more is accepted.
	broken error
}

type position struct {
	did syntax.DID
	n   int
}

// Open opens, or creates, the directory kept in the given folder.
func Open(folder string, now func() time.Time) (*Directory, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("create folder of the PLC directory: %w", err)
	}
	path := filepath.Join(folder, "operations.jsonl")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator's own data directory
	if err != nil {
		return nil, fmt.Errorf("open PLC operations: %w", err)
	}
	d := &Directory{now: now, file: f, logs: map[syntax.DID][]plc.Entry{}}
	if err := errors.Join(d.load(), durable.SyncDir(folder)); err != nil {
		return nil, errors.Join(fmt.Errorf("PLC operations %s: %w", path, err), f.Close())
	}
	return d, nil
}

// load applies the file, line by line, and leaves it open for appending.
func (d *Directory) load() error {
	r := bufio.NewReader(d.file)
	var end int64
	for line := 1; ; line++ {
		raw, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // without its newline, raw was never acknowledged
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		var rec record
		if err := json.Unmarshal(raw, &rec); err != nil {
			return fmt.Errorf("line %d is damaged: %w", line, err)
		}
		op, err := plc.Decode(rec.Operation)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if err := d.apply(rec.DID, op, rec.CreatedAt); err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		end += int64(len(raw))
	}
	if err := d.file.Truncate(end); err != nil {
		return fmt.Errorf("cut off a torn line: %w", err)
	}
	_, err := d.file.Seek(end, io.SeekStart)
	return err
}

func (d *Directory) apply(did syntax.DID, op didplc.OpEnum, at time.Time) error {
	log, err := plc.Append(did, d.logs[did], op, at)
	if err != nil {
		return err
	}
	d.logs[did] = log
	d.order = append(d.order, position{did, len(log) - 1})
	return nil
}

// Submit adds an operation. An error of package plc is the reason for a refusal; any
// other means that it could not be stored.
func (d *Directory) Submit(did syntax.DID, op didplc.OpEnum) error {
	raw, err := json.Marshal(&op)
	if err != nil {
		return fmt.Errorf("encode operation: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	now := d.now().UTC().Truncate(time.Millisecond)
	if _, err := plc.Append(did, d.logs[did], op, now); err != nil {
		return err
	}
	line, err := json.Marshal(record{DID: did, Operation: raw, CreatedAt: now})
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if _, err := d.file.Write(append(line, '\n')); err != nil {
		d.broken = fmt.Errorf("append operation: %w", err)
		return d.broken
	}
	if err := d.file.Sync(); err != nil {
		d.broken = fmt.Errorf("sync operations: %w", err)
		return d.broken
	}
	return d.apply(did, op, now)
}

// Log returns the log of a DID, empty if it was never registered.
func (d *Directory) Log(did syntax.DID) []plc.Entry {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return copyLog(d.logs[did])
}

// copyLog copies a log, so that a later nullification does not race with its
// reader.
func copyLog(log []plc.Entry) []plc.Entry { return append([]plc.Entry(nil), log...) }

// Close closes the file.
func (d *Directory) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = errors.New("directory is closed")
	return d.file.Close()
}

// export returns up to count operations accepted after the given time.
func (d *Directory) export(count int, after time.Time) []byte {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out bytes.Buffer
	for _, p := range d.order {
		e := d.logs[p.did][p.n]
		if !e.CreatedAt.After(after) {
			continue
		}
		line, err := json.Marshal(auditEntry(p.did, e))
		if err != nil || count == 0 {
			break
		}
		out.Write(append(line, '\n'))
		count--
	}
	return out.Bytes()
}
