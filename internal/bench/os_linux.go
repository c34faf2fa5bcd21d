package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sleep is exact to some 60 us. The runtime's own timers are up to a millisecond late when nothing else happens,
// which would hide what is measured.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	ts := syscall.NsecToTimespec(d.Nanoseconds())
	_ = syscall.Nanosleep(&ts, nil) // a signal may end it early: callers look at the clock
}

// attributes of children: a Ctrl-C is for us, who end them in order, and if we are killed the kernel ends them.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// tick is the unit of CPU times in /proc; USER_HZ is 100 on every architecture that Go runs on.
const tick = 10 * time.Millisecond

// cpuTime is what a process and its children have used so far; 0 where that cannot be told.
func cpuTime(pid int) time.Duration {
	used, _ := cpuOf(strconv.Itoa(pid), true)
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return used
	}
	for _, path := range stats {
		own, parent := cpuOf(filepath.Base(filepath.Dir(path)), false)
		if parent == pid {
			used += own
		}
	}
	return used
}

// cpuOf reads the CPU time and the parent of a process; the time of children that have ended too, if asked.
func cpuOf(pid string, ended bool) (time.Duration, int) {
	raw, err := os.ReadFile("/proc/" + pid + "/stat") //nolint:gosec // a number
	if err != nil {
		return 0, 0 // it has ended
	}
	_, rest, _ := strings.Cut(string(raw[max(0, bytes.LastIndexByte(raw, ')')):]), " ")
	fields := strings.Fields(rest) // from the state on, which is field 3
	if len(fields) < 15 {
		return 0, 0
	}
	last := 13
	if ended {
		last = 15
	}
	var ticks int64
	for _, f := range fields[11:last] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, 0
		}
		ticks += n
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0, 0
	}
	return time.Duration(ticks) * tick, parent
}

// processor is the machine's, as it calls itself.
func processor() string {
	raw, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// loadAverage is of the last minute: above the number of processors, others disturb the figures.
func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(raw), " ")
	return first
}
