package main

import (
	"errors"
	"fmt"
	"io"

	"nestbox/admin"
)

type doctorCmd struct {
	where
	output
}

// Run prints what the doctor found, and fails if something is wrong.
func (c *doctorCmd) Run() error {
	var d admin.Diagnosis
	if err := call(c.where, admin.CmdDoctor, admin.Done{}, &d); err != nil {
		return err
	}
	err := c.print(d, func(w io.Writer) {
		for _, f := range d.Findings {
			mark := "ok"
			if !f.OK {
				mark = "FAULT"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.What, f.Says)
		}
	})
	for _, f := range d.Findings {
		if !f.OK {
			return errors.Join(err, errors.New("something is wrong with this server"))
		}
	}
	return err
}
