package policy

import "testing"

func BenchmarkDecide(b *testing.B) {
	in := Input{
		Usage: "7.25", Budget: "10", Route: "/v1/chat/completions", Now: noon(),
		Budgets: []Budget{{
			ID: "b1", Period: "monthly", Limit: "10", Usage: "7.25", Spent: "7", Reserved: "0.25",
			Remaining: "2.75", ResetsAt: noon().AddDate(0, 0, 9),
		}},
		Tenant: "acme", Model: "gpt-4o", APIKey: "key-1", Estimate: "0.0125",
		Tags: map[string]string{"team": "search", "env": "prod"},
	}
	for name, path := range map[string]string{"default": "", "founding": foundingPath, "deny": "testdata/mixed"} {
		b.Run(name, func(b *testing.B) {
			e := loadPath(b, path)
			b.ReportAllocs()
			for b.Loop() {
				if d, err := e.Decide(b.Context(), in); err != nil || !d.Allow {
					b.Fatalf("got %+v, %v", d, err)
				}
			}
		})
	}
}
