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
func memoryMiB(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident memory", pid)
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
