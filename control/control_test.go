package control_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"nestbox/control"
)

type question struct{ Word string }

const (
	shout control.Command[question, string]  = "shout"
	fail  control.Command[question, string]  = "fail"
	other control.Command[[]int, []question] = "other"
)

func commands() control.Commands {
	return control.Commands{Plain: control.Table(
		control.Handle(shout, func(_ context.Context, q question) (string, error) { return strings.ToUpper(q.Word), nil }),
		control.Handle(fail, func(context.Context, question) (string, error) { return "", errors.New("no such word") }),
	)}
}

// TestCall: a command reaches the server of its directory and no other, and what went
// wrong there is said here.
func TestCall(t *testing.T) {
	dir := t.TempDir()
	if _, err := control.Call(t.Context(), dir, shout, question{"hello"}); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("no server: %v", err)
	}
	socket, err := control.Listen(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: commands().Handler()}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(socket) }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	if got, err := control.Call(t.Context(), dir, shout, question{"hello"}); err != nil || got != "HELLO" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := control.Call(t.Context(), dir, fail, question{}); err == nil || err.Error() != "no such word" {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := control.Call(t.Context(), dir, other, nil); err == nil || !strings.Contains(err.Error(), "does not know the command") {
		t.Errorf("a command that the server lacks: %v", err)
	}
	var got string
	if err := control.Send(t.Context(), dir, "shout", []int{1}, &got); err == nil || !strings.Contains(err.Error(), "read arguments") {
		t.Errorf("arguments of another form: %v", err)
	}
	if err := commands().Run(t.Context(), "shout", question{"alone"}, &got); err != nil || got != "ALONE" {
		t.Errorf("in this process: %q, %v", got, err)
	}
}

// TestTable: a name that two commands have is found when the program starts.
func TestTable(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two commands of one name")
		}
	}()
	same := control.Handle(shout, func(context.Context, question) (string, error) { return "", nil })
	control.Table(same, same)
}
