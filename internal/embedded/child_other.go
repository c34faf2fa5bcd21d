//go:build unix && !linux

package embedded

import (
	"context"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing: this kernel has no such notice. The next start in
// the same directory finds what was left behind.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// commandLine answers the arguments of a process, each followed by a space; empty if there is none.
func commandLine(pid int) string {
	cmd := exec.CommandContext(context.Background(), "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)) //nolint:gosec // a number
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(out), "\n") + " "
}
