package repo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
)

// Snapshot is one state of a repository, as files that are made before they are read, so
// that a slow reader holds up them and not the database. It must be closed.
type Snapshot struct {
	Head Head

	car, records *spool
}

// Snapshot makes the files of an account's repository, within the limits of downloads.
// Errors: ErrNoRepo, request.ErrTooMany, ErrBusy.
func (s *Service) Snapshot(ctx context.Context, a Account) (*Snapshot, error) {
	head, err := s.head(ctx, a.ID)
	if err == nil {
		err = s.charge(ctx, head)
	}
	if err != nil {
		return nil, err
	}
	out := &Snapshot{car: s.paidSpool(ctx), records: s.newSpool(true)}
	err = s.Store.Scan(ctx, a.ID, func(v View) error {
		out.Head = v.Head()
		e := &exporter{nodes: map[int64]kept{}, view: v, out: out.car}
		if err := e.run(); err != nil {
			return fmt.Errorf("export %s: %w", a.DID, err)
		}
		return v.EachRecord("", out.records.record)
	})
	car, carErr := out.car.made(err)
	records, recordsErr := out.records.made(err)
	if err = errors.Join(carErr, recordsErr); err != nil {
		for _, made := range []*spool{car, records} {
			if made != nil {
				made.close()
			}
		}
		return nil, err
	}
	return out, nil
}

// Close gives the files back.
func (s *Snapshot) Close() {
	s.car.close()
	s.records.close()
}

// WriteCAR writes the repository as a CAR file, as Export does.
func (s *Snapshot) WriteCAR(w io.Writer) error {
	return s.car.send(w, func(int64) error { return nil })
}

// EachRecord calls yield for each record of the snapshot, in the order of their keys.
// yield may keep nothing of it.
func (s *Snapshot) EachRecord(yield func(Record) error) error {
	r := s.records.reader()
	var buf []byte
	for {
		var parts [3]int
		for i := range parts {
			n, err := binary.ReadUvarint(r)
			if i == 0 && errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read records: %w", err)
			}
			parts[i] = int(n) //nolint:gosec // our own: at most a record
		}
		size := parts[0] + parts[1] + parts[2]
		if cap(buf) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		if _, err := io.ReadFull(r, buf); err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		id, err := cid.Cast(buf[parts[0] : parts[0]+parts[1]])
		if err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		if err := yield(Record{Key: string(buf[:parts[0]]), CID: id, Block: buf[parts[0]+parts[1]:]}); err != nil {
			return err
		}
	}
}

// record adds a record: three lengths, then key, CID and block.
func (s *spool) record(r Record) error {
	id := r.CID.Bytes()
	for _, n := range []int{len(r.Key), len(id), len(r.Block)} {
		s.mem = binary.AppendUvarint(s.mem, uint64(n)) //nolint:gosec // a length
	}
	s.mem = append(append(append(s.mem, r.Key...), id...), r.Block...)
	return s.spill()
}

// reader reads what was made, from its beginning.
func (s *spool) reader() *bufio.Reader {
	if s.file == nil {
		return bufio.NewReader(bytes.NewReader(s.mem))
	}
	return bufio.NewReaderSize(io.NewSectionReader(s.file, 0, s.size), spoolChunk)
}
