package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// logFolder is the folder of a store for segments of the log, by chain.
const logFolder = "log"

// Followed is a database whose log can be followed.
type Followed interface {
	// Follow gives what is committed from here on to a Follower: before the log starts over,
	// and when Cut is called. goesOn reports whether that goes on where from is, without a
	// gap; if not, or if from is nil, nothing is given until a snapshot is made.
	Follow(ctx context.Context, to Follower, from *Mark) (goesOn bool, err error)
	// Cut gives what was committed and not given yet, if there is anything.
	Cut(ctx context.Context) error
	// Unfollow ends the chain, if one is followed: the next snapshot begins another one.
	Unfollow(ctx context.Context, cause error) error
}

// Follower gets what is committed. Its calls come one after the other, some while writes
// wait, so they must not wait for a network.
type Follower interface {
	// Begin begins a chain of pieces at a mark and names it.
	Begin(at Mark) (chain string, err error)
	// Keep keeps the next piece of the chain.
	Keep(p Piece) error
	// End ends the chain: something went wrong. The next snapshot begins another one.
	End(cause error)
	// Closed notes that all was kept, and how the file is left.
	Closed(left FileState)
	// Unsent returns those of all blobs, which come by key, that neither a snapshot nor a piece
	// has had.
	Unsent(each func(yield func(NewBlob) error) error) ([]NewBlob, error)
	Now() time.Time
}

// Place is a place in a write-ahead log, behind a commit.
type Place struct {
	Header []byte    `json:"header"`
	End    int64     `json:"end"`
	Sum    [2]uint32 `json:"sum"`
}

// FileState identifies a state of a database's file that nobody has open.
type FileState struct {
	Size    int64 `json:"size"`
	Changed int64 `json:"changed"` // Unix nanoseconds
}

// Mark is up to where a log was followed.
type Mark struct {
	State

	// At is not before the last commit of it.
	At    time.Time `json:"at"`
	Place Place     `json:"place"`
	// Closed is set if the database was closed there.
	Closed *FileState `json:"closed,omitempty"`
}

// Piece is what was committed between two marks.
type Piece struct {
	Mark

	// Blobs are the blobs whose rows are new in it.
	Blobs []NewBlob
	// Pages calls yield for each page that has changed, in order.
	Pages func(yield func(page uint32, content []byte) error) error
}

// NewBlob is a blob's file.
type NewBlob struct {
	Key  string
	Size int64
}

// Segment is a piece of a log in a store. Its name has everything of it but the pages.
type Segment struct {
	Name  string
	Size  int64
	Chain string
	Index int64
	// At is not before its last commit, and not after the first commit of the next one.
	At        time.Time
	LastEvent int64
	// prev begins the hash of the segment before, sum is the hash of this one.
	prev, sum string
}

// prevLength is the length of Segment.prev; noPrev is that of a chain's first segment.
const (
	prevLength = 16
	noPrev     = "0000000000000000"
)

// Endings of names in a chain's folder.
const (
	segmentEnding = ".ltx"
	listEnding    = ".blobs"
)

// name sets the name of a segment, of which sum is known.
func (s *Segment) name(encrypted string) {
	s.Name = fmt.Sprintf("%s/%s/%012d-%s-%d-%s-%s%s%s", logFolder, s.Chain, s.Index, s.At.UTC().Format(nameTime), s.LastEvent, s.prev, s.sum,
		segmentEnding, encrypted)
}

// parseSegment reads the name of a segment. ok is false for another object.
func parseSegment(name string, size int64) (s Segment, ok bool) {
	folders := strings.Split(name, "/")
	if len(folders) != 3 || folders[0] != logFolder || folders[1] == "" {
		return s, false
	}
	base, isSegment := strings.CutSuffix(strings.TrimSuffix(folders[2], sealed), segmentEnding)
	parts := strings.Split(base, "-")
	if !isSegment || len(parts) != 5 || len(parts[3]) != prevLength || !isHash(parts[4]) {
		return s, false
	}
	index, err := strconv.ParseInt(parts[0], 10, 64)
	at, err2 := time.Parse(nameTime, parts[1])
	last, err3 := strconv.ParseInt(parts[2], 10, 64)
	s = Segment{Name: name, Size: size, Chain: folders[1], Index: index, At: at, LastEvent: last, prev: parts[3], sum: parts[4]}
	return s, cmp.Or(err, err2, err3) == nil && index > 0
}

func isHash(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}

// The file of a segment that waits has the name of the object without the folder.
func fileName(object string) string {
	return strings.ReplaceAll(strings.TrimPrefix(object, logFolder+"/"), "/", "+")
}

func objectName(file string) string { return logFolder + "/" + strings.Replace(file, "+", "/", 1) }

// blobList is a list of the blobs that are new in a segment.
type blobList struct {
	name  string
	size  int64
	index int64
	sum   string
	// lines are what it has, nil until it was read.
	lines []blobLine
}

// parseList reads the name of a blobList.
func parseList(name string, size int64) (l blobList, ok bool) {
	base, isList := strings.CutSuffix(name[strings.LastIndexByte(name, '/')+1:], listEnding)
	number, sum, cut := strings.Cut(base, "-")
	index, err := strconv.ParseInt(number, 10, 64)
	return blobList{name: name, size: size, index: index, sum: sum}, isList && cut && err == nil && isHash(sum)
}

// chainLog is what a store has of a chain.
type chainLog struct {
	segments []Segment // by index
	lists    []blobList
}

// readChain lists a chain; one that is not named has nothing.
func readChain(ctx context.Context, d Depot, chain string) (c chainLog, err error) {
	if chain == "" {
		return c, nil
	}
	if strings.ContainsAny(chain, "/.") {
		return c, fmt.Errorf("a chain named %q: %w", chain, ErrDamaged)
	}
	err = d.List(ctx, logFolder+"/"+chain+"/", func(o Object) error {
		if s, ok := parseSegment(o.Name, o.Size); ok {
			c.segments = append(c.segments, s)
		} else if l, ok := parseList(o.Name, o.Size); ok {
			c.lists = append(c.lists, l)
		}
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("list the log in %s: %w", d, err)
	}
	c.sort()
	return c, nil
}

func (c *chainLog) sort() {
	slices.SortFunc(c.segments, func(a, b Segment) int { return cmp.Or(cmp.Compare(a.Index, b.Index), strings.Compare(a.Name, b.Name)) })
}

// retired reports whether nothing is left up to the segment behind one of an index.
func (c *chainLog) retired(index int64) bool {
	return len(c.segments) > 0 && c.segments[0].Index > index+1
}

// after returns the segments that lead on from one of an index, up to a gap, and why there is
// one, if there are segments behind it.
func (c *chainLog) after(index int64) (run []Segment, gap string) {
	var before *Segment
	for i := range c.segments {
		s := &c.segments[i]
		switch next := i + 1; {
		case s.Index < index:
			continue
		case next < len(c.segments) && c.segments[next].Index == s.Index:
			return run, fmt.Sprintf("two servers have written segment %d of the log %s", s.Index, s.Chain)
		case s.Index == index:
			before = s
			continue
		case len(run) == 0 && c.retired(index):
			return nil, fmt.Sprintf("the segments of the log %s up to number %d are missing, or were removed because of their age",
				s.Chain, s.Index-1)
		case s.Index != index+1+int64(len(run)):
			return run, fmt.Sprintf("segment %d of the log %s is missing", index+1+int64(len(run)), s.Chain)
		case before != nil && s.prev != before.sum[:prevLength]:
			return run, fmt.Sprintf("segment %d of the log %s does not follow the one before it", s.Index, s.Chain)
		}
		before = s
		run = append(run, *s)
	}
	return run, ""
}

// until returns those that are not younger than a time; zero is any time. later are the others.
func until(run []Segment, at time.Time) (some, later []Segment) {
	for i, s := range run {
		if !at.IsZero() && s.At.After(at) {
			return run[:i], run[i:]
		}
	}
	return run, nil
}

// Span is a time of which every moment can be restored.
type Span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Why names what ends it before the present, if something does.
	Why string `json:"why,omitempty"`
}

// Spans returns which times can be restored, the oldest first: a snapshot, and what segments
// lead on from it.
func Spans(ctx context.Context, d Depot) (spans []Span, err error) {
	listed, err := List(ctx, d)
	if err != nil {
		return nil, err
	}
	chains := map[string]chainLog{}
	for i, l := range listed {
		if l.Err != nil {
			continue
		}
		c, ok := chains[l.Chain]
		if !ok {
			if c, err = readChain(ctx, d, l.Chain); err != nil {
				return nil, err
			}
			chains[l.Chain] = c
		}
		one := Span{From: l.At, To: l.At}
		run, why := c.after(l.Segment)
		if len(run) > 0 {
			one.To = later(one.To, run[len(run)-1].At)
		}
		one.Why = why
		if why == "" && i < len(listed)-1 && l.Chain != "" && listed[i+1].Err == nil && listed[i+1].Chain != l.Chain {
			one.Why = fmt.Sprintf("the snapshot of %s begins another log, as after a restore, or a crash that leaves it unclear "+
				"whether all was sent", listed[i+1].At.Format(ShownTime))
		}
		if last := len(spans) - 1; last >= 0 && !one.From.After(spans[last].To) {
			spans[last].To, spans[last].Why = later(spans[last].To, one.To), one.Why
			continue
		}
		spans = append(spans, one)
	}
	return spans, nil
}

// LastEvent returns the largest number of an event that a store knows was given: by all of its snapshots
// that can be read, and all segments of the log, whatever they lead on from.
func LastEvent(ctx context.Context, d Depot) (last int64, err error) {
	listed, err := List(ctx, d)
	if err != nil {
		return 0, err
	}
	for _, l := range listed {
		if l.Err == nil {
			last = max(last, l.LastEvent)
		}
	}
	err = d.List(ctx, logFolder+"/", func(o Object) error {
		if s, ok := parseSegment(o.Name, o.Size); ok {
			last = max(last, s.LastEvent)
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("list the log in %s: %w", d, err)
	}
	return last, nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
