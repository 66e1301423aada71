package readafterwrite

import (
	"bytes"
	"slices"
)

// edit replaces a part of a document's text.
type edit struct {
	from, to int32
	text     []byte
}

func (d *document) edit(from, to int32, text []byte) {
	d.edits = append(d.edits, edit{from, to, text})
}

// changed reports whether an edit is planned.
func (d *document) changed() bool { return len(d.edits) > 0 }

// bytes returns the whole document with its edits.
func (d *document) bytes() []byte {
	return d.splice(0, place32(len(d.src)), func(edit) bool { return true })
}

// rendered returns the text of a value with the edits in it.
func (v value) rendered() []byte {
	n := v.node()
	return v.in.splice(n.start, n.end, func(e edit) bool { return e.from > n.start && e.to < n.end })
}

// splice returns a part of the text with the edits that belong to it. An edit in
// what another one takes out has no effect.
func (d *document) splice(from, to int32, belongs func(edit) bool) []byte {
	byPlace := func(a, b edit) int { return int(a.from) - int(b.from) }
	if !slices.IsSortedFunc(d.edits, byPlace) {
		slices.SortStableFunc(d.edits, byPlace)
	}
	first, _ := slices.BinarySearchFunc(d.edits, from, func(e edit, from int32) int { return int(e.from) - int(from) })
	last, _ := slices.BinarySearchFunc(d.edits, to+1, func(e edit, from int32) int { return int(e.from) - int(from) })
	edits := d.edits[first:last]
	size := int(to - from)
	for _, e := range edits {
		size += len(e.text)
	}
	out := make([]byte, 0, size)
	for _, e := range edits {
		if e.from < from || !belongs(e) {
			continue
		}
		out = append(out, d.src[from:e.from]...)
		out = append(out, e.text...)
		from = e.to
	}
	return append(out, d.src[from:to]...)
}

// list is an object or array whose parts change: some are left out, texts of new
// ones are put in.
type list struct {
	of    value
	parts []value
	out   []bool     // parts that are left out
	in    [][][]byte // what is put in before each part, and behind the last
}

func listOf(v value) *list {
	parts := slices.Collect(v.parts())
	return &list{of: v, parts: parts, out: make([]bool, len(parts)), in: make([][][]byte, len(parts)+1)}
}

// leaveOut takes the part i out.
func (l *list) leaveOut(i int) { l.out[i] = true }

// put puts a text in before the part i, behind what was put there before.
func (l *list) put(i int, text []byte) { l.in[i] = append(l.in[i], text) }

// plan adds the edits that make the changes. Each part takes a comma with it: the one
// before it if a part that stays is before it, else the one behind.
func (l *list) plan() {
	d, pending, stays := l.of.in, [][]byte(nil), false
	for i, part := range l.parts {
		pending = append(pending, l.in[i]...)
		n := part.node()
		switch {
		case l.out[i] && stays:
			d.edit(l.parts[i-1].node().end, n.end, nil)
		case l.out[i] && i+1 < len(l.parts):
			d.edit(n.from, l.parts[i+1].node().from, nil)
		case l.out[i]:
			d.edit(n.from, n.end, nil)
		default:
			if len(pending) > 0 {
				d.edit(n.from, n.from, append(bytes.Join(pending, []byte{','}), ','))
			}
			pending, stays = nil, true
		}
	}
	pending = append(pending, l.in[len(l.parts)]...)
	if len(pending) == 0 {
		return
	}
	at := l.of.node().start + 1
	if len(l.parts) > 0 {
		at = l.parts[len(l.parts)-1].node().end
	}
	text := bytes.Join(pending, []byte{','})
	if stays {
		text = append([]byte{','}, text...)
	}
	d.edit(at, at, text)
}

// field is a member as it shall be: its name and text; no text: it shall not be there.
type field struct {
	name string
	text []byte
}

// set plans that an object has fields. What it has already, it keeps in its place.
func (v value) set(fields []field) {
	var l *list // made when members come or go
	for _, f := range fields {
		old := v.member(f.name)
		if old.there() && f.text != nil {
			if !bytes.Equal(old.raw(), f.text) {
				v.in.edit(old.node().start, old.node().end, f.text)
			}
			continue
		}
		if old.there() == (f.text != nil) {
			continue
		}
		if l == nil {
			l = listOf(v)
		}
		if old.there() {
			l.leaveOut(slices.Index(l.parts, old))
		} else {
			l.put(len(l.parts), append(append(quote(nil, f.name), ':'), f.text...))
		}
	}
	if l != nil {
		l.plan()
	}
}
