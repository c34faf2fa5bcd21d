package main

import "testing"

func TestCountsAreWhatHappenedBetweenTwoReadings(t *testing.T) {
	t.Parallel()
	before := counts{turns: 10, transactions: 100, wal: 5000, commands: readCalls("# Commandstats\r\ncmdstat_xadd:calls=7,usec=120,usec_per_call=17.14\r\n")}
	after := counts{turns: 15, transactions: 130, wal: 45000, commands: readCalls(
		"cmdstat_xadd:calls=27,usec=1\r\ncmdstat_evalsha:calls=10,usec=1\r\ncmdstat_config|resetstat:calls=0,usec=1\r\ncmdstat_broken\r\n")}
	var c counts
	c.add(before, after)
	want := "0.50 turns of the ledger, 3.00 writing transactions, 4.0 kB of WAL, 3.0 Redis commands (xadd 2.0, evalsha 1.0)"
	if got := c.perRequest(10); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
