package policy

import (
	"testing"
	"time"
)

// The example stands in testdata as the contract prints it, in Rego v0.
const foundingPath = "testdata/founding.rego"

func TestFoundingExampleDeniesOnlyAdminUsageAfterHoursOutsideTheBudget(t *testing.T) {
	t.Parallel()
	e := loadPath(t, foundingPath)
	if !e.NeedsBalances() {
		t.Error("the founding example does not ask for balances")
	}
	balances := map[string]struct {
		usage, budget string
		within        bool
	}{
		"within":      {"1", "2", true},
		"just within": {"1.999999999", "2", true},
		"exhausted":   {"2.00", "2", false},
		"overrun":     {"2.000000001", "2", false},
		"no budget":   {"", "", false},
		"usage only":  {"1", "", false},
		"budget only": {"", "2", false},
	}
	for name, b := range balances {
		for _, route := range []string{"/v1/chat/completions", "/admin/tenant-usage", "/admin/tenants"} {
			for hour := range 24 {
				in := Input{
					Usage: b.usage, Budget: b.budget, Route: route,
					Now: time.Date(2026, 11, 22, hour, 59, 59, 0, time.UTC),
				}
				want := b.within || route != "/admin/tenant-usage" || hour < 21
				d, err := e.Decide(t.Context(), in)
				if err != nil || d.Allow != want {
					t.Errorf("%s, %s at %d: got %v, %v; want %v", name, route, hour, d.Allow, err, want)
				}
			}
		}
	}
}

func TestTheHourIsTheTenantsOwn(t *testing.T) {
	t.Parallel()
	e := loadPath(t, foundingPath)
	instant := time.Date(2026, 11, 22, 20, 30, 0, 0, time.UTC) // 21:30 in Berlin.
	for offset, want := range map[int]bool{0: true, 1: false} {
		zone := time.FixedZone("tenant", offset*int(time.Hour/time.Second))
		d, err := e.Decide(t.Context(), Input{Route: "/admin/tenant-usage", Now: instant.In(zone)})
		if err != nil || d.Allow != want {
			t.Errorf("offset %d h: got %v, %v; want %v", offset, d.Allow, err, want)
		}
	}
}
