package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// suite is a package's benchmarks that belong in the table; the others are for whoever works on the package.
type suite struct{ pkg, pattern string }

func suites() []suite {
	return []suite{
		{"./internal/bench", "^Benchmark(Decide|Append)$"},
		{"./proxy/request", "^BenchmarkParse$/^typical$"},
		{"./proxy/tokens", "^BenchmarkEstimate$/^(200B|4KB|100KB)$"},
		{"./proxy/sse", "^Benchmark(Reader|Meter)$"},
		{"./policy", "^BenchmarkDecide$/^(default|founding)$"},
	}
}

// micro is one line of go test -bench.
type micro struct {
	name          string
	nanos         float64
	bytes, allocs int64
	perSecond     float64 // as reported by the benchmark itself; 0: it does not
}

// runMicro runs the micro-benchmarks and shows their table. A package that does not compile costs its rows and the
// exit code, not the others'.
func (b *bench) runMicro(ctx context.Context) error {
	if !b.micro {
		return nil
	}
	length := "300ms"
	if b.quick {
		length = "20ms"
	}
	var failed []error
	t := table{}
	t.add("", "us/op", "bytes/op", "allocs/op", "ops/s")
	for _, s := range suites() {
		b.say("micro-benchmarks of %s", s.pkg)
		cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench="+s.pattern, "-benchmem", "-benchtime="+length, s.pkg) //nolint:gosec // from our own table
		cmd.Dir = b.stage.root
		out, err := cmd.CombinedOutput()
		if err := interrupted(ctx); err != nil {
			return err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("benchmarks of %s: %w\n%s", s.pkg, err, out))
			continue
		}
		for _, m := range readMicro(out) {
			t.add(m.cells(s.pkg)...)
		}
	}
	b.show("\nMicro-benchmarks (go test -bench)\n\n%s", t.String())
	return errors.Join(failed...)
}

func (m micro) cells(pkg string) []string {
	perSecond := m.perSecond
	if perSecond == 0 && m.nanos > 0 {
		perSecond = 1e9 / m.nanos
	}
	return []string{
		strings.TrimPrefix(pkg, "./") + " " + m.name, fmt.Sprintf("%.2f", m.nanos/1000),
		fmt.Sprint(m.bytes), fmt.Sprint(m.allocs), fmt.Sprintf("%.0f", perSecond),
	}
}

// readMicro reads the lines of results in go test's output: a name with the number of processors, the iterations,
// then values and their units. What is no such line is left out.
func readMicro(out []byte) []micro {
	var found []micro
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		if m, ok := readFields(fields); ok {
			found = append(found, m)
		}
	}
	return found
}

func readFields(fields []string) (micro, bool) {
	m := micro{name: strings.TrimPrefix(fields[0], "Benchmark")}
	if i := strings.LastIndexByte(m.name, '-'); i > 0 {
		m.name = m.name[:i]
	}
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return m, false
		}
		switch fields[i+1] {
		case "ns/op":
			m.nanos = value
		case "B/op":
			m.bytes = int64(value)
		case "allocs/op":
			m.allocs = int64(value)
		case "ops/s":
			m.perSecond = value
		}
	}
	return m, m.nanos > 0
}
