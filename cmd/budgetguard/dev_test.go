package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/embedded"
)

// scratch is a data directory that the servers' user can reach, also when the tests run as root.
func scratch(t *testing.T) string {
	t.Helper()
	root, err := embedded.Scratch("budgetguard-dev-test-*")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "data")
	t.Cleanup(func() {
		if err := errors.Join(embedded.Remove(dir), os.RemoveAll(root)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// note reads dev.env of a data directory.
func note(t *testing.T, dir string) devNote {
	t.Helper()
	n, err := readDevNote(dir)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// founding is the first curl line of the README and the banner, as a request.
func founding(t *testing.T, gateway string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, gateway+"/v1/chat/completions",
		strings.NewReader(`{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Tenant-Id", "demo")
	return send(t, r)
}

func TestDevAnswersTheFoundingLinesReaches402AndKeepsEverything(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	env := []string{"PORT=0"}
	p := start(t, env, "dev", "--data", dir)
	p.line(t, "Stop with Ctrl-C")
	n := note(t, dir)
	checkNote(t, dir)
	recorder := filepath.Join(dir, "recorder")
	if recorded(t, recorder, `"gateway"`) != 1 {
		t.Error("there is no flight recorder beside the other data")
	}
	completions(t, n)
	calls := untilRefused(t, n.gateway)
	if calls > 10 {
		t.Errorf("402 after %d calls, want ten at most", calls)
	}
	spent := agreesWithBill(t, n)
	if code := p.stop(t); code != exitOK {
		t.Fatalf("exit code %d:\n%s", code, p.output())
	}
	if left, err := os.ReadDir(recorder); err != nil || len(left) != 0 {
		t.Errorf("%v, %v is left of the flight recorder", left, err)
	}
	again := start(t, env, "dev", "--data", dir)
	again.line(t, "Stop with Ctrl-C")
	m := note(t, dir)
	if m.adminKey != n.adminKey || m.demoKey != n.demoKey {
		t.Error("the keys changed over a restart")
	}
	if line := again.line(t, "  monthly "); !strings.Contains(line, spent+" spent") {
		t.Errorf("the banner does not show the %s spent: %s", spent, line)
	}
	if a := founding(t, m.gateway); a.status != http.StatusPaymentRequired {
		t.Errorf("after the restart: %d, want 402", a.status)
	}
	if agreesWithBill(t, m) != spent {
		t.Error("the bill changed over a restart")
	}
	raise(t, m)
	if a := founding(t, m.gateway); a.status != http.StatusOK {
		t.Errorf("after the raise: %d %s", a.status, a.body)
	}
}

func checkNote(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, devNoteFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("dev.env: %v, mode %v, want 0600", err, info.Mode())
	}
}

// completions is the second founding line, with the key.
func completions(t *testing.T, n devNote) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.gateway+"/v1/completions", strings.NewReader(`{"model":"gpt-3.5-turbo","prompt":"hello"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Tenant-Id", "demo")
	r.Header.Set("X-API-Key", n.demoKey)
	if a := send(t, r); a.status != http.StatusOK {
		t.Errorf("completions: %d %s", a.status, a.body)
	}
}

// untilRefused returns the number of the call that no budget has room for, whatever is still in flight: an answer
// reaches its client a moment before its hold is released, and a slow machine makes that moment long.
func untilRefused(t *testing.T, gateway string) int {
	t.Helper()
	for calls := 1; calls <= 20; {
		a := founding(t, gateway)
		switch {
		case a.status == http.StatusOK:
			calls++
			continue
		case strings.Contains(string(a.body), `"inFlight":true`):
			time.Sleep(10 * time.Millisecond)
			continue
		case a.status != http.StatusPaymentRequired || !strings.HasPrefix(string(a.body), `{"error":"Budget exceeded"`):
			t.Fatalf("%d %s", a.status, a.body)
		}
		return calls
	}
	t.Fatal("twenty calls and no 402")
	return 0
}

// agreesWithBill waits until the UsageLedger has what the mock billed and returns it.
func agreesWithBill(t *testing.T, n devNote) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.mock+"/bill", nil)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct{ TotalUsd string }
	if err := json.Unmarshal(send(t, r).body, &bill); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), n.database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	eventually(t, `"UsageLedger" agrees with the bill`, func() bool {
		var usd string
		err := conn.QueryRow(t.Context(), `select coalesce(sum(usd), 0)::text from "UsageLedger"`).Scan(&usd)
		return err == nil && nano(t, usd) == nano(t, bill.TotalUsd)
	})
	return domain.Amount(nano(t, bill.TotalUsd)).String()
}

// raise is the last line of the banner.
func raise(t *testing.T, n devNote) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.gateway+"/admin/tenant/demo/budgets", strings.NewReader(`{"period":"monthly","limitUsd":"1.01"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Admin-Key", n.adminKey)
	if a := send(t, r); a.status != http.StatusOK {
		t.Errorf("raise: %d %s", a.status, a.body)
	}
}

func TestDevBudgetVariablesBeatTheDemoBudget(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	file := filepath.Join(t.TempDir(), "limit")
	if err := os.WriteFile(file, []byte("0.5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"PORT=0", "BUDGET_DAILY_DEMO_FILE=" + file, "DEFAULT_BUDGET_USD=2"}, "dev", "--data", dir)
	p.line(t, "Stop with Ctrl-C")
	if line := p.line(t, "  daily "); !strings.Contains(line, "0.5 of 0.5") {
		t.Error(line)
	}
	if line := p.line(t, "  monthly "); !strings.Contains(line, "2 of 2") {
		t.Error(line)
	}
}

func TestConfigurationErrorsSayWhatToDoAndExitWith3(t *testing.T) {
	t.Parallel()
	complete := []string{"DATABASE_URL=postgres://127.0.0.1:1/x", "REDIS_URL=redis://127.0.0.1:1"}
	cases := map[string]struct {
		env  []string
		args []string
		code int
		says string
	}{
		"serve without a database":  {nil, []string{"serve"}, exitConfig, "DATABASE_URL"},
		"worker without a database": {nil, []string{"worker"}, exitConfig, "DATABASE_URL"},
		"short admin key":           {append(complete, "ADMIN_API_KEY=short"), []string{"serve"}, exitConfig, "ADMIN_API_KEY"},
		"value and file":            {append(complete, "OPENAI_KEY=a", "OPENAI_KEY_FILE=/b"), []string{"serve"}, exitConfig, "both set"},
		"bad duration":              {append(complete, "RESERVATION_TTL=soon"), []string{"serve"}, exitConfig, "RESERVATION_TTL"},
		"bad choice":                {append(complete, "TENANT_AUTH=maybe"), []string{"serve"}, exitConfig, "TENANT_AUTH"},
		"bad period":                {append(complete, "BUDGET_PERIODS=fortnightly"), []string{"serve"}, exitConfig, "BUDGET_PERIODS"},
		"bad limit":                 {append(complete, "BUDGET_DAILY_ACME=1.0000000001"), []string{"serve"}, exitConfig, "BUDGET_DAILY_ACME"},
		"custom without its end":    {append(complete, "BUDGET_START_DATE=2026-01-01"), []string{"serve"}, exitConfig, "BUDGET_END_DATE"},
		"custom period":             {append(complete, "BUDGET_PERIODS=monthly, custom"), []string{"serve"}, exitConfig, "BUDGET_START_DATE and BUDGET_END_DATE"},
		"custom limit":              {append(complete, "BUDGET_CUSTOM_USD=5"), []string{"serve"}, exitConfig, "BUDGET_START_DATE and BUDGET_END_DATE"},
		"custom limit of a tenant":  {append(complete, "BUDGET_CUSTOM_ACME=5"), []string{"serve"}, exitConfig, "BUDGET_START_DATE and BUDGET_END_DATE"},
		"custom dates":              {append(complete, "BUDGET_CUSTOM_USD=5", "BUDGET_START_DATE=2026-01-32", "BUDGET_END_DATE=2026-02-01"), []string{"serve"}, exitConfig, "want a date"},
		"custom dates backwards":    {append(complete, "BUDGET_CUSTOM_USD=5", "BUDGET_START_DATE=2026-02-02", "BUDGET_END_DATE=2026-02-01"), []string{"serve"}, exitConfig, "is not after"},
		"rolling period":            {append(complete, "BUDGET_PERIODS=rolling"), []string{"serve"}, exitConfig, "admin API"},
		"rolling limit":             {append(complete, "BUDGET_ROLLING_USD=5"), []string{"serve"}, exitConfig, "admin API"},
		"a misspelled budget":       {append(complete, "BUDGET_MONTLY_USD=5"), []string{"serve"}, exitConfig, "BUDGET_MONTHLY_USD"},
		"a misspelled tenant's":     {append(complete, "BUDGET_DALY_ACME=5"), []string{"serve"}, exitConfig, "BUDGET_DAILY_ACME"},
		"a budget of nothing":       {append(complete, "BUDGET_LIMIT=5"), []string{"serve"}, exitConfig, "names no budget"},
		"a near miss":               {append(complete, "MAX_MONTLY_USD=5"), []string{"serve"}, exitConfig, "MAX_MONTHLY_USD"},
		"a near miss in a file":     {append(complete, "ADMIN_API_KEYS_FILE=/x"), []string{"serve"}, exitConfig, "ADMIN_API_KEY"},
		"a level that is none":      {append(complete, "LOG_LEVEL=loud"), []string{"serve"}, exitConfig, "want debug, info, warn or error"},
		"a network that is none":    {append(complete, "TRUSTED_PROXIES=10.0.0.0"), []string{"serve"}, exitConfig, "want networks such as 10.0.0.0/8"},
		"a base URL with a secret":  {append(complete, "OPENAI_BASE_URL=https://user:hunter2@[::1"), []string{"serve"}, exitConfig, "want a URL such as"},
		"a database with a secret":  {[]string{"DATABASE_URL=postgres://user:hunter2@[::1/x", "REDIS_URL=redis://127.0.0.1:1"}, []string{"serve"}, exitConfig, "DATABASE_URL"},
		"a worker's with a secret":  {[]string{"DATABASE_URL=postgres://user:hunter2@host:port/x", "REDIS_URL=redis://127.0.0.1:1"}, []string{"worker"}, exitConfig, "DATABASE_URL"},
		"a Redis with a secret":     {[]string{"DATABASE_URL=postgres://127.0.0.1:1/x", "REDIS_URL=redi://user:hunter2@[::1"}, []string{"serve"}, exitConfig, "REDIS_URL"},
		"a ledger's with a secret":  {[]string{"DATABASE_URL=postgres://user:hunter2@[::1/x"}, []string{"ledger", "verify"}, exitConfig, "DATABASE_URL"},
		"a database that is no URL": {[]string{"DATABASE_URL=nonsense", "REDIS_URL=redis://127.0.0.1:1"}, []string{"serve"}, exitConfig, "DATABASE_URL"},
		"unknown ledger command":    {nil, []string{"ledger", "bogus"}, exitUsage, "unknown command"},
		"database down":             {complete, []string{"serve"}, exitDependency, "database"},
		"unknown command":           {nil, []string{"fly"}, exitUsage, "unknown command"},
		"unknown flag":              {nil, []string{"serve", "--fast"}, exitUsage, "--fast"},
		"secret as a flag":          {nil, []string{"serve", "--openai-key", "x"}, exitUsage, "openai-key"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, c.env, c.args...)
			if code := p.wait(t); code != c.code || !strings.Contains(p.output(), c.says) {
				t.Errorf("exit code %d, want %d; printed:\n%s", code, c.code, p.output())
			}
			if strings.Contains(p.output(), "hunter2") {
				t.Errorf("a secret was printed:\n%s", p.output())
			}
		})
	}
}

// What other programs and platforms put into an environment is not ours to refuse.
func TestVariablesOfOthersAreNoMisspellings(t *testing.T) {
	t.Parallel()
	foreign := []string{
		"PATH=/bin", "HOME=/root", "HOST_IP=1", "PORTS=1", "HOSTNAME=x", "KUBERNETES_SERVICE_HOST=10.0.0.1", "KUBERNETES_PORT=tcp://10.0.0.1:443",
		"REDIS_PORT=tcp://10.0.0.2:6379", "REDIS_SERVICE_HOST=10.0.0.2", "POSTGRES_PASSWORD=x", "DATABASE_HOST=x", "OPENAI_API_KEY=x", "OPENAI_ORG=x",
		"LANG=C", "LOG_DIR=x", "ADMIN_EMAIL=x", "PGPASSWORD=x", "BUDGETGUARD_VERSION=1", "CI=true",
	}
	v := &values{environ: newEnvironment(foreign)}
	if v.refuseStrangers(); v.err != nil {
		t.Error(v.err)
	}
}
