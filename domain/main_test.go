package domain_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones of these tests exist on every machine
)

// november is an instant for tests in which time does not matter.
var november = time.Date(2026, time.November, 22, 0, 0, 0, 0, time.UTC)

var update = flag.Bool("update", false, "write docs/events anew, and the golden events that do not exist yet")

// TestMain makes twice a thousand random histories of some twenty steps the default. RAPID_CHECKS and
// RAPID_STEPS, or the flags of these names, ask for more.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"checks": "1000", "steps": "20"} {
		if os.Getenv("RAPID_"+strings.ToUpper(name)) != "" {
			continue
		}
		if err := flag.Set("rapid."+name, value); err != nil {
			fmt.Fprintln(os.Stderr, "set rapid."+name+":", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
