package firehose

import (
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/firehose/event"
)

// Checker checks a log, event by event: numbers have no gaps, events can be sent, and
// they do not contradict the repositories. It remembers the last commit of each
// repository.
type Checker struct {
	// Report is called for each fault.
	Report func(fault string)
	// Foreign is the number up to which events came with a take-over: they are checked as
	// event.Event.CheckForeign does.
	Foreign int64
	// Events is how many there were.
	Events int64

	seq, total int64
	latest     map[syntax.DID]event.Message
}

// Event checks the next event. total is the store's count of the bytes of all bodies
// up to this one.
func (c *Checker) Event(e Logged, total int64) {
	c.Events++
	size := int64(len(e.Body))
	switch {
	case c.Events == 1: // what came before it was pruned
	case e.Seq != c.seq+1:
		c.Report(fmt.Sprintf("event %d follows event %d", e.Seq, c.seq))
	case e.Removed() && total >= c.total: // its size went with it
	case total != c.total+size:
		c.Report(fmt.Sprintf("event %d: the log has %d bytes with it, its row says %d", e.Seq, c.total+size, total))
	}
	c.seq, c.total = e.Seq, total
	if e.Removed() {
		if e.DID != "" || size != 0 {
			c.Report(fmt.Sprintf("event %d was removed, and something of it is left", e.Seq))
		}
		return
	}
	check := e.Check
	if e.Seq <= c.Foreign {
		check = e.CheckForeign
	}
	said, err := check(e.Seq)
	if err != nil {
		c.Report(fmt.Sprintf("event %d, %s of %s: %v", e.Seq, e.Kind, e.DID, err))
		return
	}
	if said.Rev == "" {
		return
	}
	if c.latest == nil {
		c.latest = map[syntax.DID]event.Message{}
	}
	c.latest[e.DID] = said
}

// End checks the last given number against the last event.
func (c *Checker) End(last int64) {
	if c.Events > 0 && last != c.seq {
		c.Report(fmt.Sprintf("the last event is %d, the last number that was given %d", c.seq, last))
	}
}

// Head checks the head of an active account's repository against the last event about
// it. If the log keeps none, nothing contradicts it.
func (c *Checker) Head(did syntax.DID, rev syntax.TID, commit cid.Cid) {
	said, ok := c.latest[did]
	if ok && (said.Rev != rev || !said.Commit.Equals(commit)) {
		c.Report(fmt.Sprintf("%s: the event log last told of commit %s at %s, the repository is at %s at %s",
			did, said.Commit, said.Rev, commit, rev))
	}
}
