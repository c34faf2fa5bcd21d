package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// quietWithin bounds the way to rest after all is healed, beside the life of a reservation.
	quietWithin = 2 * time.Minute
	// overdueMost is how long a hold may outlive its time once all is healed. It should be three seconds; the rest is for
	// a machine that is busy with other things.
	overdueMost = 20 * time.Second
)

// rest waits until nothing is held, published or projected any more. What is then still the matter is a violation.
func (s *stage) rest(ctx context.Context, v *verdict) error {
	bounded, cancel := context.WithTimeout(ctx, s.ttl+quietWithin)
	defer cancel()
	healed := s.now()
	overdue := int64(0)
	for {
		open, err := s.unrest(bounded)
		if err == nil && len(open) == 0 {
			break
		}
		if s.now().Sub(healed) > overdueMost {
			overdue = max(overdue, s.overdue(bounded))
		}
		if sleep(bounded, 100*time.Millisecond) == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			open = append(open, err.Error())
		}
		slices.Sort(open)
		for _, o := range open {
			v.violated("no rest", "%s after all is healed: %s", s.ttl+quietWithin, o)
		}
		break
	}
	if overdue > 0 {
		v.violated("held past its time", "%d holds for more than %s after all was healed", overdue, overdueMost)
	}
	return nil
}

// overdue counts the holds that should have been closed long ago.
func (s *stage) overdue(ctx context.Context) (n int64) {
	_ = s.pool.QueryRow(ctx, `select count(*) from hold where expires_at < clock_timestamp() - $1::interval`, overdueMost).Scan(&n) // unrest says what is wrong
	return n
}

// unrest says what is not at rest yet.
func (s *stage) unrest(ctx context.Context) ([]string, error) {
	var open []string
	for _, q := range []struct{ what, sql string }{
		{"reservations held", `select count(*) from hold`},
		{"rows to publish", `select count(*) from outbox`},
		{"tenants the UsageLedger is behind of", `select count(*) from tenant_head h where version <>
			coalesce((select version from projection_cursor c where c.name = 'usage' and c.tenant_id = h.tenant_id), 0)`},
	} {
		var n int64
		if err := s.pool.QueryRow(ctx, q.sql).Scan(&n); err != nil {
			return nil, err
		}
		if n > 0 {
			open = append(open, fmt.Sprintf("%d %s", n, q.what))
		}
	}
	if len(open) > 0 {
		return open, nil
	}
	return s.registersBehind(ctx)
}

// registersBehind compares the registers in Redis with the balances in Postgres, tenant by tenant.
func (s *stage) registersBehind(ctx context.Context) ([]string, error) {
	rows, err := s.pool.Query(ctx, `select h.tenant_id, h.version::text, coalesce(a.account_id::text, ''), coalesce(concat_ws('|', a.version, a.period,
			(extract(epoch from a.win_start) * 1000000)::bigint, (extract(epoch from a.win_end) * 1000000)::bigint,
			a.limit_nano, a.settled, a.held, a.presumed, 0, 0, '', a.budget_id), '')
		from tenant_head h left join account a using (tenant_id) order by 1`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var open []string
	hashes := map[string]map[string]string{}
	for rows.Next() {
		var tenant, version, account, want string
		if err := rows.Scan(&tenant, &version, &account, &want); err != nil {
			return nil, err
		}
		hash, read := hashes[tenant]
		if !read {
			if hash, err = s.client.HGetAll(ctx, "bg:{"+tenant+"}:balances").Result(); err != nil {
				return nil, err
			}
			hashes[tenant] = hash
			if hash["version"] != version {
				open = append(open, fmt.Sprintf("registers of %s are at version %q of %s", tenant, hash["version"], version))
			}
		}
		if account != "" && hash[account] != want {
			open = append(open, fmt.Sprintf("register %s of %s is %q, the row %q", account, tenant, hash[account], want))
		}
	}
	return open, rows.Err()
}

// alarms are what no log may say, whatever is broken around the program.
func alarms() []string {
	return []string{
		"DATA RACE", "panic:", "goroutine stack exceeds", "a command failed for good", "a turn was refused", "lost its compare-and-set",
		"does not verify", "cannot be decided",
	}
}

// readLog looks for alarms in what a program said, and counts its errors.
func (s *stage) readLog(v *verdict, p *program) {
	file, err := os.Open(p.log)
	if err != nil {
		return // it said nothing
	}
	defer func() { _ = file.Close() }() // only read
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		for _, alarm := range alarms() {
			if strings.Contains(lines.Text(), alarm) {
				v.violated("alarm in the log of "+p.name, "%s", lines.Text())
			}
		}
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Level == "ERROR" {
			if v.errors == nil {
				v.errors = map[string]int{}
			}
			v.errors[entry.Msg]++
		}
	}
}
