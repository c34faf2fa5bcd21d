package domain_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	_ "time/tzdata" // the zones of these tests exist on every machine
)

var update = flag.Bool("update", false, "write docs/events anew, and the golden events that do not exist yet")

// TestMain makes a few thousand random histories the default; RAPID_CHECKS or -rapid.checks asks for more.
func TestMain(m *testing.M) {
	if os.Getenv("RAPID_CHECKS") == "" {
		if err := flag.Set("rapid.checks", "2000"); err != nil {
			fmt.Fprintln(os.Stderr, "set rapid.checks:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
