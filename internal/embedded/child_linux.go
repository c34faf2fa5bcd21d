package embedded

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent makes the kernel send the signal when the forking thread ends.
func dieWithParent(attr *syscall.SysProcAttr, dies syscall.Signal) { attr.Pdeathsig = dies }

// commandLine answers the arguments of a process, each followed by a space; empty if
// there is none, or only a zombie.
func commandLine(pid int) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(string(raw), "\x00", " ")
}
