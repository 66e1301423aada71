// Package readafterwrite changes what another service answers to six reads of
// app.bsky, so that an account sees at once what it has just written here: new
// posts, an edited profile, deleted posts. It is pure: the records come from its
// caller, further questions to the service go through its caller.
//
// Invariants:
//   - An answer is changed in place. What is not the account's own stays byte for
//     byte: unknown members, their order, the texts of numbers, white space.
//   - An answer whose shape is not the expected one is not changed at all, and
//     neither is one that is not valid JSON, repeats a member or is not UTF-8.
//   - An answer is read once, and memory is bounded by it (maxNodes, maxDepth) and by
//     what may be added to it, whatever the account's records are: see budget.go.
//   - The same input makes the same answer.
package readafterwrite
