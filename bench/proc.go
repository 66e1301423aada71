package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU time in /proc: 1/100 s on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// processCPU is the CPU time that a process has used, in user and kernel mode.
func processCPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command's name, in brackets, may hold anything; utime and stime are
	// the 12th and 13th field after it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return sumTicks(fields, 11, 12)
}

// machineCPU is the CPU time that everything on the machine has used, and what
// a hypervisor gave to others.
func machineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	// user nice system (idle iowait) irq softirq steal
	return sumTicks(bytes.Fields(line), 1, 2, 3, 6, 7, 8)
}

func sumTicks(fields [][]byte, which ...int) (time.Duration, error) {
	var sum int64
	for _, i := range which {
		if i >= len(fields) {
			return 0, fmt.Errorf("/proc has %d fields, want more than %d", len(fields), i)
		}
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}

// memoryMiB is a process's resident memory.
func memoryMiB(pid int) (float64, error) { return memoryOf(pid, "VmRSS:") }

// peakMiB is the largest resident memory since the process began, or since
// resetPeak.
func peakMiB(pid int) (float64, error) { return memoryOf(pid, "VmHWM:") }

// resetPeak sets a process's peak to its present memory (proc(5), clear_refs).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

func memoryOf(pid int, field string) (float64, error) {
	value, err := procField(pid, "status", field)
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSuffix(value, " kB"), 64)
	return kib / 1024, err
}

// bytesWritten returns the bytes of the pages of files that a process has made
// dirty: what goes to the disk, and not to sockets. A page that is changed
// again before it was written counts once.
func bytesWritten(pid int) (int64, error) {
	value, err := procField(pid, "io", "write_bytes:")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(value, 10, 64)
}

// procField is the value of a line in one of a process's files.
func procField(pid int, file, field string) (string, error) {
	path := fmt.Sprintf("/proc/%d/%s", pid, file)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", path, field)
}

// machine describes what the figures were measured on.
func machine() string {
	cpu, kernel := "unknown CPU", "unknown kernel"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	if v, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = "Linux " + strings.TrimSpace(string(v))
	}
	return cpu + ", " + kernel
}
