package lexicon

// Graphemes is graphemes, for tests.
var Graphemes = graphemes
