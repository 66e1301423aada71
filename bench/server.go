package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout and stopTimeout bound how long a server may take.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = 30 * time.Second
)

// server is a measured server: a process of its own on loopback.
type server struct {
	name string
	host string // 127.0.0.1:port
	pid  int
	dir  string
	// started is how long it took from exec to the first answer.
	started time.Duration
	// idle is its resident memory before the first request, in MiB.
	idle float64

	processes []*exec.Cmd
}

// stop ends the server's processes, the last started first.
func (s *server) stop() error {
	var errs []error
	for _, cmd := range slices.Backward(s.processes) {
		_ = cmd.Process.Signal(syscall.SIGTERM) // fails if the process has ended
		kill := time.AfterFunc(stopTimeout, func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", s.name, err))
		}
		kill.Stop()
	}
	return errors.Join(errs...)
}

// launch starts a command. Its log goes to a file in dir.
func (s *server) launch(env []string, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...) //nolint:noctx // our own binaries, stopped by stop
	cmd.Env = append(environ(), env...)
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd.Stderr = log
	return cmd, nil
}

// environ is the environment without settings of a PDS.
func environ() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PDS_") {
			env = append(env, kv)
		}
	}
	return env
}

// logLevel leaves out the log line of each request; the reference runs without a log,
// too.
const logLevel = "warn"

// ours starts a command that announces itself with a READY line, at logLevel unless env
// says otherwise.
func ours(name, dir, binary string, env []string, args ...string) (_ *server, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &server{name: name, dir: dir}
	cmd, err := s.launch(append([]string{"PDS_LOG_LEVEL=" + logLevel}, env...), binary, args...)
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.processes = []*exec.Cmd{cmd}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	kill := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("%s ended before it was ready, see %s: %w", name, filepath.Join(dir, "log"), err)
	}
	s.started = time.Since(begun)
	var ready struct{ URL string }
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, "READY ")), &ready); err != nil {
		return nil, fmt.Errorf("READY line %q: %w", line, err)
	}
	u, err := url.Parse(ready.URL)
	if err != nil {
		return nil, fmt.Errorf("READY line %q: %w", line, err)
	}
	s.host, s.pid = "127.0.0.1:"+u.Port(), cmd.Process.Pid
	s.idle, err = memoryMiB(s.pid)
	return s, err
}

// nestbox starts the binary on a data directory; env are settings.
func nestbox(binary, dir string, env ...string) (*server, error) {
	return ours("Nestbox", dir, binary, env, "serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir)
}

// referencePDS starts the reference that bench/run has installed in folder: a
// PLC directory, and the PDS, which alone is measured.
func referencePDS(folder, dir string, env ...string) (_ *server, err error) {
	blobs := filepath.Join(dir, "blobs")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		return nil, err
	}
	plc, err := freePort()
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &server{name: "reference", dir: dir, host: "127.0.0.1:" + strconv.Itoa(port)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if err := s.startNode(folder, plc, "/_health", nil, "plc", strconv.Itoa(plc)); err != nil {
		return nil, err
	}
	return s, s.startNode(folder, port, "/xrpc/_health", append([]string{
		"NODE_ENV=production", "UV_USE_IO_URING=0", // as its container has it
		"PDS_HOSTNAME=pds.test", "PDS_PORT=" + strconv.Itoa(port), "PDS_SERVICE_HANDLE_DOMAINS=.test",
		"PDS_DATA_DIRECTORY=" + dir, "PDS_BLOBSTORE_DISK_LOCATION=" + blobs,
		"PDS_DID_PLC_URL=http://localhost:" + strconv.Itoa(plc), // its resolver refuses an address
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("5a", 32),
		"PDS_JWT_SECRET=jwt-secret", "PDS_ADMIN_PASSWORD=admin-password", "PDS_INVITE_REQUIRED=false",
		"PDS_RATE_LIMITS_ENABLED=false", "PDS_DISABLE_SSRF_PROTECTION=true", "LOG_ENABLED=false",
		"PDS_BSKY_APP_VIEW_URL=http://127.0.0.1:9", "PDS_BSKY_APP_VIEW_DID=did:web:appview.invalid",
	}, env...), "pds")
}

// startNode runs start.mjs and waits until it answers; the process is then the
// one that is measured.
func (s *server) startNode(folder string, port int, path string, env []string, args ...string) error {
	script := append([]string{"--enable-source-maps", filepath.Join(folder, "start.mjs")}, args...)
	cmd, err := s.launch(env, filepath.Join(folder, "node22"), script...)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	s.processes = append(s.processes, cmd)
	s.pid = cmd.Process.Pid
	for !answers(port, path) {
		if time.Since(begun) > startTimeout {
			return fmt.Errorf("%s %s is not ready, see %s", s.name, args[0], filepath.Join(s.dir, "log"))
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.started = time.Since(begun)
	s.idle, err = memoryMiB(s.pid)
	return err
}

func answers(port int, path string) bool {
	tcp, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second) //nolint:noctx // it has its own limit
	if err != nil {
		return false
	}
	defer func() { _ = tcp.Close() }()
	if err := tcp.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false
	}
	if _, err := fmt.Fprintf(tcp, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return false
	}
	line, err := bufio.NewReader(tcp).ReadString('\n')
	return err == nil && strings.HasPrefix(line, "HTTP/1.1 200")
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("a listener without a port")
	}
	return addr.Port, nil
}
