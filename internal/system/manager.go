package system

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager that started this process and wants to hear of its state:
// systemd, by sd_notify(3). The zero value is none.
type Manager struct {
	socket   string
	watchdog time.Duration
}

// FindManager returns the service manager that an environment, as os.Environ returns it, names.
func FindManager(environ []string) Manager {
	var m Manager
	var micros, pid string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET":
			m.socket = value
		case "WATCHDOG_USEC":
			micros = value
		case "WATCHDOG_PID":
			pid = value
		}
	}
	if n, err := strconv.ParseInt(micros, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.watchdog = time.Duration(n) * time.Microsecond
	}
	return m
}

// Watchdog returns how often Tell("WATCHDOG=1") is to be called, 0 for never: twice in the time
// after which the manager takes the process for dead.
func (m Manager) Watchdog() time.Duration {
	if m.socket == "" {
		return 0
	}
	return m.watchdog / 2
}

// Tell tells the manager about the state of the process, in lines like READY=1.
func (m Manager) Tell(state string) error {
	if m.socket == "" {
		return nil
	}
	// A name that begins with @ is in the abstract namespace: net knows that as well.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("reach the service manager: %w", err)
	}
	defer func() { _ = c.Close() }() // a datagram is sent or not
	if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("reach the service manager: %w", err)
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}
