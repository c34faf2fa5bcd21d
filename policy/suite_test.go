package policy

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheDefaultPassesItsOwnRegoTests(t *testing.T) {
	t.Parallel()
	passes(t, "", 4)
}

func TestRegoTestsOfADirectoryRunWithItsData(t *testing.T) {
	t.Parallel()
	passes(t, "testdata/mixed", 3)
}

func TestRegoTestsBesideASingleFileRun(t *testing.T) {
	t.Parallel()
	path := write(t, filepath.Join(t.TempDir(), "policy.rego"), allowing)
	passes(t, path, 0)
	write(t, strings.TrimSuffix(path, ".rego")+"_test.rego", header+"test_it {\n  allow\n}\n")
	passes(t, path, 1)
}

func passes(t *testing.T, path string, want int) {
	t.Helper()
	report, err := Test(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Failed() {
		t.Errorf("%s: %s: %v %s", r.Where, r.Name, r.Err, r.Output)
	}
	if len(report.Results) != want {
		t.Errorf("%d Rego tests ran, want %d: %+v", len(report.Results), want, report.Results)
	}
}

func TestFailedSkippedAndBrokenRegoTestsAreToldApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.rego"), allowing)
	write(t, filepath.Join(dir, "policy_test.rego"), header+`
test_fails if {
	print("allow is", allow)
	not allow
}
test_errs if to_number(input.x) == 1 with input as {"x": "y"}
test_passes if allow
todo_test_later if false
`)
	report, err := Test(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Result{}
	for _, r := range report.Results {
		got[strings.TrimPrefix(r.Name, "data.budgetguard.policy.")] = r
	}
	if len(got) != 4 || len(report.Failed()) != 2 {
		t.Fatalf("got %+v", report.Results)
	}
	if r := got["test_fails"]; r.Passed || r.Err != nil || !strings.Contains(r.Output, "allow is true") || r.Where == "" {
		t.Errorf("got %+v", r)
	}
	if r := got["test_errs"]; r.Passed || r.Err == nil {
		t.Errorf("got %+v", r)
	}
	if r := got["test_passes"]; !r.Passed {
		t.Errorf("got %+v", r)
	}
	if r := got["todo_test_later"]; !r.Skipped || r.Passed {
		t.Errorf("got %+v", r)
	}
}

func TestAPolicyThatWouldBeRefusedFailsItsTestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "policy.rego"), header+"allow if time.now_ns() > 0")
	if _, err := Test(t.Context(), dir); !errors.Is(err, ErrBuiltin) {
		t.Errorf("got %v; want ErrBuiltin", err)
	}
	if _, err := Test(t.Context(), filepath.Join(dir, "nowhere")); !errors.Is(err, ErrSource) {
		t.Errorf("got %v; want ErrSource", err)
	}
}
