package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// profileSource is a file that go build lays over cmd/budgetguard (-overlay): the shipped binary offers no profile.
//
//go:embed profile.go.txt
var profileSource []byte

// layProfile writes the overlay of a build with profiles and returns its path.
func layProfile(root, dir string) (string, error) {
	source, overlay := filepath.Join(dir, "profile.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "cmd", "budgetguard", "bench_profile.go"): source,
	}})
	if err != nil {
		return "", err
	}
	return overlay, errors.Join(os.WriteFile(source, profileSource, 0o600), os.WriteFile(overlay, text, 0o600))
}

// profiled adds the address for a process's profiles to its environment.
func (s *stage) profiled(ctx context.Context, name string, env []string) []string {
	if !s.profiling {
		return env
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return env // the profile will say that nobody answers
	}
	s.profile[name] = "http://" + address
	return append(env, "BENCH_PROFILE_ADDR="+address)
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// takeProfiles writes the profiles of gateway and worker over a span of time, taken while use runs, into dir.
func (s *stage) takeProfiles(ctx context.Context, dir string, span time.Duration, use func()) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	errs := make(chan error, len(s.profile))
	for name, base := range s.profile {
		go func() {
			url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", base, int(span.Seconds()))
			errs <- fetch(ctx, url, filepath.Join(dir, name+".cpu.pprof"), span)
		}()
	}
	use()
	var failed []error
	for name, base := range s.profile {
		failed = append(failed, <-errs)
		for _, kind := range []string{"allocs", "mutex", "block"} {
			failed = append(failed, fetch(ctx, base+"/debug/pprof/"+kind, filepath.Join(dir, name+"."+kind+".pprof"), 0))
		}
	}
	return errors.Join(failed...)
}

func fetch(ctx context.Context, url, path string, takes time.Duration) (err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := (&http.Client{Timeout: takes + answerWithin}).Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	file, err := os.Create(path) //nolint:gosec // where -profile says
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = io.Copy(file, answer.Body)
	return err
}
