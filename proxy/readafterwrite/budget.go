package readafterwrite

// What an account writes need not be what an app would write: a repository takes records
// of a megabyte. These bounds hold for one answer, so that it costs little memory and
// time. Ordinary records are far below them.
const (
	// maxAdded is how many bytes are added to an answer. What does not fit is left out:
	// of a feed the oldest new posts.
	maxAdded = 2 << 20
	// maxPost and maxPostValues bound a new post: its JSON in bytes, and its values.
	maxPost       = 256 << 10
	maxPostValues = 4096
	// maxView bounds a view in an answer that is shown at another place too.
	maxView = 256 << 10
	// maxProfile bounds the JSON of the profile; the Lexicon's members have some kB.
	maxProfile = 32 << 10
	// maxSideAnswer and maxParents bound answers to further questions: views of records,
	// and the parents of a thread.
	maxSideAnswer = 512 << 10
	maxParents    = 1 << 20
	// maxLabels and maxLabel are how many labels a post has, and bytes a label, by the
	// Lexicon.
	maxLabels, maxLabel = 10, 128
	// nodeFrame is what a node of a thread has around its post, at most.
	nodeFrame = 128
)

// spend takes n bytes of what may still be added. If there are not so many, it reports
// false, and nothing more can be added.
func (c *change) spend(n int) bool {
	if n > c.left {
		c.left = 0
		return false
	}
	c.left -= n
	return true
}

// set plans that a view has fields. If there is no room for them, the original must go
// out: the view would be half old.
func (c *change) set(view value, fields []field) {
	size := 0
	for _, f := range fields {
		if f.text != nil {
			size += len(f.name) + len(f.text) + len(`"":,`)
		}
	}
	if !c.spend(size) {
		c.overfull = true
		return
	}
	view.set(fields)
}

// know adds a view of a post in the answer to those that new posts can show.
func (c *change) know(view value) {
	if isPostView(view) && len(view.raw()) <= maxView {
		c.found[view.member("uri").text()] = view
	}
}
