// Package moving owns what comes with an account that moves in: files that its owner brings,
// which wait for a last word, and the work in the background that fetches the rest from the
// server that the account comes from.
//
// Invariants: a file changes nothing before its owner has seen what it holds; nothing is
// kept that is not what its hash says; memory and disk are bounded, whatever a file or a
// server claims; work goes on after a restart.
package moving
