//go:build unix

package main

import "syscall"

// descriptors is how many files and sockets this process may have open. Go raises the limit to the hard
// one at the start of a process.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return assumedDescriptors
	}
	return int(min(limit.Cur, maxDescriptors))
}
