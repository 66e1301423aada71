// Package faults makes a development server fail on purpose, so that the author of a client
// sees what the client does then: answers that are lost, cut or late, errors of the host and of
// proxies, tokens that expire soon, sessions that end.
//
// It stands around the whole public server, and knows of its clients what anybody on the wire
// knows: requests and answers. The server knows nothing of it: cmd/nestbox puts it there, for
// serve --dev alone.
//
// Invariants:
//   - Without a Plan a request goes on to the server as it came.
//   - Whether a fault happens at a call depends on the plan's seed, the fault, and which of the
//     account's calls it is, counted from when the plan was set: nothing else.
//   - Of the faults that lose, cut or replace the answer of a call only the first that can acts. What has
//     no effect is not counted.
//   - A fault never makes the server do something that its contract rules out, except in the
//     answer that the fault replaces.
package faults
