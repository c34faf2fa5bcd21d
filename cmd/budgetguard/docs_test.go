package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of a page, and the first line of it, by which tests name it.
type block struct{ page, language, first, text string }

// blocks reads those of the README and of all pages below docs.
func blocks(t *testing.T) []block {
	t.Helper()
	pages := []string{"../../README.md", "../../CONTRIBUTING.md"}
	for _, pattern := range []string{"../../docs/*.md", "../../docs/*/*.md"} {
		more, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, more...)
	}

	fence := regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	var found []block
	for _, page := range pages {
		raw, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
			first, _, _ := strings.Cut(m[2], "\n")
			found = append(found, block{page: filepath.Base(page), language: m[1], first: first, text: m[2]})
		}
	}
	return found
}

// notRun are the shell blocks that no test of this package runs, by their first line, with the reason.
func notRun() map[string]string {
	return map[string]string{
		"make run": "its program is run by TestTheLinesOfTheReadmeWork; make itself would install packages",
		"make test     # all of it, with real Postgres and Redis that the tests start themselves": "it would " +
			"run this test",
		"VERSION=$(git describe --tags --always) docker compose up --build -d --wait gateway worker": "it needs " +
			"a Docker engine; what the services run is run by the tests of Compose",
		"make bench                                   # everything, some five minutes": "five minutes",
		"make chaos T=20m            # a run of 20 minutes; 60s without T":             "twenty minutes",
		"make sim                                 # 50 seeds of 20,000 steps: a million steps": "minutes; " +
			"internal/sim runs fewer seeds",
	}
}

// run are the shell blocks that TestTheLinesOfTheReadmeWork runs, by their first line.
const (
	foundingBlock = `curl -X POST -H "Content-Type: application/json" -H "X-Tenant-Id: demo" \`
	adminBlock    = `# the key is in .budgetguard/dev.env; with Docker: docker compose run --rm -T secrets admin_api_key`
)

func TestEveryShellBlockIsRunOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	reasons := notRun()
	seen := map[string]bool{}
	for _, b := range blocks(t) {
		if b.language != "bash" && b.language != "sh" && b.language != "console" {
			continue
		}
		seen[b.first] = true
		if reasons[b.first] == "" && b.first != foundingBlock && b.first != adminBlock {
			t.Errorf("%s: nothing runs the block that begins with %q", b.page, b.first)
		}
	}
	for first := range reasons {
		if !seen[first] {
			t.Errorf("no page has a block that begins with %q", first)
		}
	}
}

func TestTheLinesOfTheReadmeWork(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	p := start(t, []string{"PORT=0"}, "dev", "--data", dir)
	p.line(t, "Stop with Ctrl-C")
	n := note(t, dir)

	// The banner, up to the lines that it prints for trying.
	printed, _, _ := strings.Cut(p.output(), "Try it, in a second terminal:")
	banner := printed[strings.Index(printed, "BudgetGuard "):]
	asPrinted(t, strings.TrimSuffix(blockOf(t, "BudgetGuard ").text, "…\n"), banner+"Try it, in a second terminal:\n")

	// The two lines that the project was founded on.
	founding := shell(t, n, blockOf(t, foundingBlock).text)
	if strings.Count(founding, `"choices"`) != 2 {
		t.Errorf("the founding lines answered %s", founding)
	}

	// Four more of the first, which is five with the completion: the page promises the 402 after them.
	line, _, _ := strings.Cut(blockOf(t, foundingBlock).text, "\n\n")
	line = strings.Replace(line, "curl -X", "curl -i -X", 1)
	var last string
	for calls := 2; calls <= 10 && !strings.Contains(last, "402"); calls++ {
		last = shell(t, n, line)
	}
	head, body, _ := strings.Cut(strings.ReplaceAll(last, "\r", ""), "\n\n")
	status, _, _ := strings.Cut(head, "\n")
	asPrinted(t, blockOf(t, "HTTP/1.1 402").text, status+"\n"+body)

	// The admin API: every answer is a success, or bash ends there.
	shell(t, n, "set -euo pipefail\n"+blockOf(t, adminBlock).text)
	if after := shell(t, n, line); !strings.HasPrefix(after, "HTTP/1.1 200") {
		t.Errorf("after the raise of the page: %s", after)
	}
}

// blockOf is the block of the README that begins with a text.
func blockOf(t *testing.T, first string) block {
	t.Helper()
	for _, b := range blocks(t) {
		if b.page == "README.md" && strings.HasPrefix(b.first, first) {
			return b
		}
	}
	t.Fatalf("the README has no block that begins with %q", first)
	return block{}
}

// shell runs lines of a page in bash, with the address and the keys of this test for those of the page.
func shell(t *testing.T, n devNote, lines string) string {
	t.Helper()
	address, err := url.Parse(n.gateway)
	if err != nil {
		t.Fatal(err)
	}
	lines = strings.NewReplacer("localhost:3000", address.Host, "<TENANT_API_KEY>", n.demoKey).Replace(lines)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", lines)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ADMIN_API_KEY=" + n.adminKey}
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s\nended with %v\n%s%s", lines, err, out, problems.String())
	}
	return string(out)
}

// asPrinted compares what a page shows with what was printed. On the page, … stands for anything; ids,
// versions, ports and the folder are the test's own; where a line is broken does not count.
func asPrinted(t *testing.T, page, printed string) {
	t.Helper()
	pattern := regexp.QuoteMeta(strings.Join(strings.Fields(page), " "))
	for _, own := range []struct{ shown, is string }{
		{`BudgetGuard [0-9a-f]+, for`, `BudgetGuard \S+, for`},
		{`127\\\.0\\\.0\\\.1:\d+`, `127\.0\.0\.1:\d+`},
		{`/home/you/\S*dev\\\.env`, `\S+dev\.env`},
		{`bud_\w+`, `bud_\w+`},
		{`…`, `.*`},
	} {
		pattern = regexp.MustCompile(own.shown).ReplaceAllLiteralString(pattern, own.is)
	}
	printed = strings.Join(strings.Fields(printed), " ")
	if !regexp.MustCompile(`^` + pattern + `$`).MatchString(printed) {
		t.Errorf("the page shows\n%s\nand printed was\n%s", page, printed)
	}
}
