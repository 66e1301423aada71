package prefs

// CheckNew is checkNew, for tests.
var CheckNew = checkNew
