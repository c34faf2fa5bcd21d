package policy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

// testTimeout bounds one Rego test. A test may ask the policy many times.
const testTimeout = 10 * time.Second

// Report is the outcome of a policy's own Rego tests, sorted by name.
type Report struct {
	Results []Result
}

// Result is the outcome of one Rego test.
type Result struct {
	// Name is the test with its package, such as
	// "data.budgetguard.policy_test.test_allows".
	Name string
	// Where is the file and line.
	Where string
	// Passed and Skipped (a todo_test_) exclude each other.
	Passed, Skipped bool
	// Err is why the test could not be finished; a test that simply does not
	// hold has none.
	Err error
	// Output is what the test printed.
	Output string
	// Took is how long the test ran.
	Took time.Duration
}

// Failed returns the results of the tests that did not pass.
func (r Report) Failed() []Result {
	return slices.DeleteFunc(slices.Clone(r.Results), func(t Result) bool { return t.Passed || t.Skipped })
}

// Test runs the Rego tests of the policy at path: the rules named test_… in its
// *_test.rego files, and for a single file x.rego those in x_test.rego beside
// it. The policy is compiled as [Load] compiles it, so a policy that would be
// refused fails here too. An empty path tests the embedded default. A policy
// without tests gives an empty report.
func Test(ctx context.Context, path string) (Report, error) {
	src, err := readSource(path)
	if err != nil {
		return Report{}, err
	}
	if err := addSibling(&src, path); err != nil {
		return Report{}, err
	}
	if _, err := prepare(ctx, src, Timeout); err != nil {
		return Report{}, err
	}
	return run(ctx, src)
}

// addSibling adds x_test.rego to a source that is the one file x.rego.
func addSibling(src *source, path string) error {
	stem, isRego := strings.CutSuffix(path, ".rego")
	if _, single := src.files[filepath.Base(path)]; !isRego || !single {
		return nil
	}
	beside, err := readSource(stem + "_test.rego")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for name, content := range beside.files {
		src.files[name] = content
	}
	return nil
}

func run(ctx context.Context, src source) (Report, error) {
	data, err := readData(src)
	if err != nil {
		return Report{}, err
	}
	compiler, err := compile(src, true)
	if err != nil {
		return Report{}, err
	}
	store := inmem.NewFromObject(data)
	txn, err := store.NewTransaction(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("test policy %s: %w", src.name, err)
	}
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().
		SetCompiler(newCompiler(true)). // The runner adds stages for table tests.
		SetModules(compiler.ParsedModules()).
		SetStore(store).
		SetTimeout(testTimeout).
		CapturePrintOutput(true).
		RaiseBuiltinErrors(true).
		RunTests(ctx, txn)
	if err != nil {
		return Report{}, fmt.Errorf("test policy %s: %w", src.name, err)
	}
	var report Report
	for r := range results {
		if r == nil {
			continue
		}
		report.Results = append(report.Results, Result{
			Name:    r.Package + "." + r.Name,
			Where:   fmt.Sprintf("%s:%d", r.Location.File, r.Location.Row),
			Passed:  r.Pass(),
			Skipped: r.Skip,
			Err:     r.Error,
			Output:  string(r.Output),
			Took:    r.Duration,
		})
	}
	slices.SortFunc(report.Results, func(a, b Result) int { return strings.Compare(a.Name, b.Name) })
	return report, ctx.Err()
}
