package migrations_test

import (
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3/lock"

	"github.com/budgetguard/budgetguard/internal/testenv"
	"github.com/budgetguard/budgetguard/migrations"
)

var update = flag.Bool("update", false, "write testdata/schema.golden.txt again")

func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.WithLeakCheck())) }

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// all is how many migrations there are.
func all(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".sql") {
			n++
		}
	}
	return n
}

func pending(t *testing.T, url string, want int) {
	t.Helper()
	if got, err := migrations.Pending(bounded(t), url); err != nil || got != want {
		t.Errorf("%d pending, %v; want %d", got, err, want)
	}
}

func TestUpRunsEachMigrationOnce(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	pending(t, url, all(t))
	ran, err := migrations.Up(bounded(t), url)
	if err != nil || len(ran) != all(t) {
		t.Fatalf("%v, %v", ran, err)
	}
	before := int64(0)
	for i, m := range ran {
		if m.Version <= before || !strings.HasSuffix(m.Name, ".sql") {
			t.Errorf("%+v ran in place %d", m, i+1)
		}
		before = m.Version
	}
	pending(t, url, 0)
	if again, err := migrations.Up(bounded(t), url); err != nil || len(again) != 0 {
		t.Errorf("the second time: %v, %v", again, err)
	}
}

func TestUpAtOnceByManyRunsEachMigrationOnce(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for range 3 {
		wg.Go(func() {
			ran, err := migrations.Up(bounded(t), url)
			mu.Lock()
			defer mu.Unlock()
			total += len(ran)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if total != all(t) {
		t.Errorf("%d ran in all", total)
	}
	pending(t, url, 0)
}

// A probe that waited for the lock of a migration would take every gateway out of rotation.
func TestTheStatusIsReadWithoutTheLockOfAMigration(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	if _, err := migrations.Up(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	holder, err := pgx.Connect(bounded(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close(context.WithoutCancel(t.Context())) })
	if _, err := holder.Exec(bounded(t), `select pg_advisory_lock($1)`, lock.DefaultLockID); err != nil {
		t.Fatal(err)
	}

	var probes sync.WaitGroup
	for range 8 {
		probes.Go(func() { pending(t, url, 0) })
	}
	probes.Wait()
	if n, err := migrations.Missing(bounded(t), holder); err != nil || n != 0 {
		t.Errorf("%d missing, %v", n, err)
	}
}

func TestAMigrationThatWasUndoneIsMissing(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	if _, err := migrations.Up(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(bounded(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	for i, change := range []string{
		`update goose_db_version set is_applied = false where version_id = 2`,
		`delete from goose_db_version where version_id in (1, 2)`,
	} {
		if _, err := conn.Exec(bounded(t), change); err != nil {
			t.Fatal(err)
		}
		pending(t, url, i+1)
	}
}

func TestErrorsSayWhatWasWanted(t *testing.T) {
	t.Parallel()
	nowhere := "postgres://nobody@127.0.0.1:1/none?connect_timeout=1"
	if _, err := migrations.Up(bounded(t), nowhere); err == nil || !strings.HasPrefix(err.Error(), "migrate: ") {
		t.Error(err)
	}
	if _, err := migrations.Pending(bounded(t), nowhere); err == nil || !strings.HasPrefix(err.Error(), "read migration status: ") {
		t.Error(err)
	}
}

// TestSchemaIsTheGoldenOne shows in a review what a migration changes. Partitions of event are left out:
// their names are months.
func TestSchemaIsTheGoldenOne(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	if _, err := migrations.Up(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(bounded(t), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	query, err := os.ReadFile("testdata/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(bounded(t), string(query))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(lines, "\n") + "\n"
	const golden = "testdata/schema.golden.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Split(strings.TrimSuffix(string(want), "\n"), "\n")
	for _, line := range lines {
		if !slices.Contains(wanted, line) {
			t.Errorf("+ %s", line)
		}
	}
	for _, line := range wanted {
		if !slices.Contains(lines, line) {
			t.Errorf("- %s", line)
		}
	}
	if got != string(want) {
		t.Errorf("the schema is not %s; if that is right, run go test ./migrations -update", golden)
	}
}

func TestStreamsThatAreThereAreInherited(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	if _, err := migrations.Up(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(bounded(t), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	head := func(tenant string) {
		t.Helper()
		if _, err := conn.Exec(bounded(t), `insert into tenant_head (tenant_id, version, last_ts, last_hash) values ($1, 5, now(), sha256('x'))`, tenant); err != nil {
			t.Fatal(err)
		}
	}
	// The seventh migration runs again, and with it those that came after.
	const undo = `drop table allowance; drop function account_opened, budget_defined, budget_retired cascade;
		alter table budget drop column opened;
		alter table tenant_head drop column budgets, drop column inherited;
		delete from goose_db_version where version_id >= 7`
	if _, err := conn.Exec(bounded(t), undo); err != nil {
		t.Fatal(err)
	}
	head("old")
	if _, err := migrations.Up(bounded(t), url); err != nil {
		t.Fatal(err)
	}
	head("new")
	for tenant, want := range map[string]int64{"old": 5, "new": 0} {
		var inherited int64
		if err := conn.QueryRow(bounded(t), `select inherited from tenant_head where tenant_id = $1`, tenant).Scan(&inherited); err != nil || inherited != want {
			t.Errorf("%s inherited %d, want %d: %v", tenant, inherited, want, err)
		}
	}
}
