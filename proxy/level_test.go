package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/proxy"
)

// failing is a ledger that fails in one way.
type failing struct {
	proxy.Ledger
	err    error
	closes bool // what closes a reservation fails, else what makes one
}

func (l failing) Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error) {
	if _, reserves := c.(domain.Reserve); reserves != l.closes {
		return nil, l.err
	}
	return l.Ledger.Do(ctx, tenant, c)
}

func TestWhatIsAwayIsAWarningAndABugIsAnError(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("%w: the database is away", domain.ErrUnavailable)
	bug := errors.New("the database refused what was decided: the stream does not verify")
	for name, c := range map[string]struct {
		setup  setup
		ledger func(proxy.Ledger) proxy.Ledger
		status int
		line   string // of the log, with its level
	}{
		"the ledger is away": {
			ledger: func(l proxy.Ledger) proxy.Ledger { return failing{Ledger: l, err: away} },
			status: 503, line: `level=WARN msg="request refused"`,
		},
		"a stream that does not verify": {
			ledger: func(l proxy.Ledger) proxy.Ledger { return failing{Ledger: l, err: bug} },
			status: 500, line: `level=ERROR msg="request refused"`,
		},
		"a panic": {
			setup:  setup{books: leftBehind},
			ledger: func(l proxy.Ledger) proxy.Ledger { return faulty{l} },
			status: 500, line: `level=ERROR msg=panic`,
		},
		"the provider is away": {
			setup:  setup{address: "http://127.0.0.1:1"},
			ledger: func(l proxy.Ledger) proxy.Ledger { return l },
			status: 502, line: `level=WARN msg="request refused"`,
		},
		"a client's mistake": {
			ledger: func(l proxy.Ledger) proxy.Ledger { return failing{Ledger: l, err: domain.ErrKeyUnusable} },
			status: 401, line: `level=DEBUG msg="request refused"`,
		},
		"a settlement while the ledger is away": {
			setup:  setup{books: leftBehind},
			ledger: func(l proxy.Ledger) proxy.Ledger { return failing{Ledger: l, err: away, closes: true} },
			status: 200, line: `level=WARN msg="settlement refused`,
		},
		"a settlement that is refused": {
			setup:  setup{books: leftBehind},
			ledger: func(l proxy.Ledger) proxy.Ledger { return failing{Ledger: l, err: bug, closes: true} },
			status: 200, line: `level=ERROR msg="settlement refused`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.setup.deps = func(d *proxy.Deps) { d.Ledger = c.ledger(d.Ledger) }
			g := start(t, c.setup)
			if r := g.chat(g.tenant("acme", "100"), ""); r.status != c.status {
				t.Errorf("got %d %s", r.status, r.body)
			}
			check(t, g.server.Cut(t.Context()))
			if !strings.Contains(g.log.String(), c.line) {
				t.Errorf("want %s", c.line)
			}
			if n := strings.Count(g.log.String(), "level=ERROR"); n > 0 != strings.Contains(c.line, "ERROR") {
				t.Errorf("%d errors", n)
			}
		})
	}
}
