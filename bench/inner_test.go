package main

import (
	"maps"
	"strings"
	"testing"
)

// TestBenchmarkFigures reads what go test prints.
func TestBenchmarkFigures(t *testing.T) {
	const out = `goos: linux
pkg: nestbox/server
BenchmarkTakeover-2   	       1	7300000000 ns/op	       410.5 accounts/s	     82000 records/s
BenchmarkTakeoverOther-2   	       1	1 ns/op
PASS
`
	want := map[string]float64{"ns/op": 7300000000, "accounts/s": 410.5, "records/s": 82000}
	if got := benchmarkFigures(strings.NewReader(out), "BenchmarkTakeover"); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}
