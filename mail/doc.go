// Package mail owns what the server writes to people: the texts, the outbox in
// which they wait, and the way to the operator's mail server. It knows no domain: a
// domain that has something to say makes a Message, and the domain's store queues
// it in the transaction of the change that it reports.
//
// Invariants:
//   - No request waits for a mail server.
//   - What was queued is sent at least once, also across kill -9: it leaves the
//     outbox when the server has taken it, when there is no such mailbox, or
//     when it is too old to be of use. A message that is sent again has the same
//     Message-ID.
//   - The outbox, each recipient's part of it, and a message are bounded.
//   - No address, code or text of a message is logged; a server's answer only
//     without the words that name the recipient.
package mail
