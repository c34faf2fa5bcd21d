//go:build unix && !linux

package main

import (
	"syscall"
	"time"
)

// sleep is as exact as the runtime's timers, about a millisecond.
func sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// attributes of children: a Ctrl-C is for us, who end them in order.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// cpuTime, processor and loadAverage are not told here.
func cpuTime(int) time.Duration { return 0 }
func processor() string         { return "" }
func loadAverage() string       { return "" }
