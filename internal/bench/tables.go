package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// table is text in columns: the first is flush left, the others right.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) String() string {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + gap)
				continue
			}
			line.WriteString("  " + gap + cell)
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

func (b *bench) show(format string, args ...any) { _, _ = fmt.Fprintf(b.out, format, args...) }

func (b *bench) showHeader(lines []string) {
	b.show("BudgetGuard benchmark: everything on, all processes on this machine, the load generator too\n\n")
	for _, line := range lines {
		b.show("%s\n", line)
	}
	b.show("load      %s, prompt of %d bytes, max_tokens %d; %d rounds of %d s each\n", model, len(prompt(0)), maxTokens, b.rounds, b.seconds)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }

func millisAll(all []time.Duration) []string {
	var cells []string
	for _, d := range all {
		cells = append(cells, millis(d))
	}
	return cells
}

// added is what quantiles have above others. Noise can make it negative, and is shown.
func added(of, over []time.Duration) []string {
	var cells []string
	for i := range of {
		cells = append(cells, fmt.Sprintf("%+.2f", float64((of[i]-over[i]).Microseconds())/1000))
	}
	return cells
}

// micros is CPU time per answer.
func micros(used time.Duration, answers int) string {
	if answers == 0 || used == 0 {
		return "-"
	}
	return fmt.Sprint((used / time.Duration(answers)).Microseconds())
}

func (f *figures) cpu() []string {
	n := len(f.latencies)
	return []string{micros(f.proxyCPU, n), micros(f.postgresCPU, n), micros(f.redisCPU, n), micros(f.workerCPU, n)}
}

func (b *bench) showLatencies() {
	b.show("\nLatency in ms at a fixed rate, counted from the time each request was due; + is above direct\n\n")
	for _, rate := range b.rates {
		t := table{}
		t.add(fmt.Sprintf("%d/s", rate), "p50", "p90", "p99", "p99.9", "+p50", "+p90", "+p99", "+p99.9", "errors", "us CPU: proxy", "Postgres", "Redis", "worker")
		direct := spread(b.targets[0].open[rate].latencies)
		for i, target := range b.targets {
			f := target.open[rate]
			own := spread(f.latencies)
			above := []string{"", "", "", ""}
			if i > 0 {
				above = added(own, direct)
			}
			cells := append([]string{target.name}, millisAll(own)...)
			cells = append(append(cells, above...), fmt.Sprint(f.errors))
			t.add(append(cells, f.cpu()...)...)
		}
		b.show("%s\n", t.String())
		b.showErrors(func(t *target) error { return t.open[rate].first })
	}
}

func (b *bench) showThroughput() {
	b.show("Requests per second, %d clients, each with one request at a time; median of %d\n\n", b.clients, b.rounds)
	t := table{}
	t.add("", "requests/s", "of plain", "p50 ms", "p99 ms", "errors", "us CPU: proxy", "Postgres", "Redis", "worker", "worker behind", "rounds")
	plain := median(b.targets[1].rates)
	for i, target := range b.targets {
		f := &target.closed
		q := spread(f.latencies)
		share, behind := "", ""
		if i > 0 && plain > 0 {
			share = fmt.Sprintf("%.0f %%", 100*median(target.rates)/plain)
		}
		if target.guarded {
			behind = fmt.Sprintf("%.1f s", target.behind.Seconds())
		}
		var rounds []string
		for _, r := range target.rates {
			rounds = append(rounds, fmt.Sprintf("%.0f", r))
		}
		cells := []string{target.name, fmt.Sprintf("%.0f", median(target.rates)), share, millis(q[0]), millis(q[2]), fmt.Sprint(f.errors)}
		t.add(append(append(cells, f.cpu()...), behind, strings.Join(rounds, ", "))...)
	}
	b.show("%s\n", t.String())
	b.showErrors(func(t *target) error { return t.closed.first })
}

func (b *bench) showStreams() {
	if b.streams == 0 {
		return
	}
	b.show("%d concurrent streams of %d events, %d a second; ms from the start\n\n", b.streams, streamTokens, chunksPerSecond)
	t := table{}
	t.add("", "first p50", "first p99", "+p50", "+p99", "whole p50", "whole p99", "+p50", "+p99", "errors")
	var direct [2][]time.Duration
	for i, target := range b.targets[:3] {
		first, total := spread(target.flowing.first.latencies), spread(target.flowing.total.latencies)
		if i == 0 {
			direct = [2][]time.Duration{first, total}
		}
		cells := []string{target.name, millis(first[0]), millis(first[2]), "", "", millis(total[0]), millis(total[2]), "", ""}
		if i > 0 {
			a, w := added(first, direct[0]), added(total, direct[1])
			cells[3], cells[4], cells[7], cells[8] = a[0], a[2], w[0], w[2]
		}
		t.add(append(cells, fmt.Sprint(target.flowing.first.errors))...)
	}
	b.show("%s\n", t.String())
	b.showErrors(func(t *target) error { return t.flowing.first.first })
}

// showErrors names the first failure of each target that had one.
func (b *bench) showErrors(of func(*target) error) {
	for _, t := range b.targets {
		if err := of(t); err != nil {
			b.show("first error of %s: %v\n", t.name, err)
		}
	}
}

func (b *bench) showVerdict(v verdict) {
	word, checked := "=", "ledger verify: ok"
	if !v.agrees() {
		word = "IS NOT"
	}
	if !v.verified {
		checked = "ledger verify FAILED:\n" + v.says
	}
	b.show("Books: UsageLedger %s USD in %d rows %s provider's bill %s USD for %d requests; %s\n",
		v.ledgeredUSD, v.ledgered, word, cmp.Or(v.billedUSD, "0"), v.billed, checked)
}
