package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// clockSource is the clock that a skewed build reads.
//
//go:embed clock.go.txt
var clockSource []byte

// moduleRoot is the directory of go.mod, so that the command works in all of the checkout.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module (run this in the checkout): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// build compiles the program under test, with the race detector where this program has it.
func build(ctx context.Context, root, to string, args ...string) error {
	args = append([]string{"build", "-o", to}, args...)
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/budgetguard")...) //nolint:gosec // our own arguments
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build budgetguard: %w\n%s", err, out)
	}
	return nil
}

// buildSkewed compiles the same program with a clock that can be off. The product has no switch for that, so the few
// lines of cmd/budgetguard that hand out time.Now are given another function; nothing else differs.
func buildSkewed(ctx context.Context, root, dir, to string) error {
	replaced, err := skewSources(root, dir)
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o600); err != nil {
		return err
	}
	return build(ctx, root, to, "-overlay", path)
}

// skewSources writes the sources that read another clock into dir. It returns what replaces what.
func skewSources(root, dir string) (map[string]string, error) {
	replaced := map[string]string{}
	commands := filepath.Join(root, "cmd", "budgetguard")
	files, err := filepath.Glob(filepath.Join(commands, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the checkout's own sources
		if err != nil {
			return nil, err
		}
		changed := strings.ReplaceAll(string(text), "time.Now", "skewedNow")
		if strings.HasSuffix(file, "_test.go") || changed == string(text) {
			continue
		}
		if !strings.Contains(strings.ReplaceAll(changed, `"time"`, ""), "time.") { // the import would be left over
			changed = strings.Replace(changed, "\t\"time\"\n", "", 1)
		}
		replaced[file] = filepath.Join(dir, "skewed-"+filepath.Base(file))
		//nolint:gosec // a name of ours in a directory of ours
		if err := os.WriteFile(replaced[file], []byte(changed), 0o600); err != nil {
			return nil, err
		}
	}
	if len(replaced) == 0 {
		return nil, fmt.Errorf("nothing in %s reads a clock any more: the skewed build would be the usual one", commands)
	}
	clock := filepath.Join(dir, "skewed-clock.go")
	replaced[filepath.Join(commands, "chaos_clock.go")] = clock
	return replaced, os.WriteFile(clock, clockSource, 0o600)
}
