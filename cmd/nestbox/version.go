package main

import (
	"fmt"
	"io"
	"runtime"
)

type versionCmd struct{ output }

func (c *versionCmd) Run() error {
	v := map[string]string{"version": version, "go": runtime.Version()}
	return c.print(v, func(w io.Writer) { fmt.Fprintf(w, "nestbox %s (%s)\n", v["version"], v["go"]) })
}
