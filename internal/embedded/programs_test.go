package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake puts a program into dir that prints a version.
func fake(t *testing.T, dir, version string, names ...string) string {
	t.Helper()
	check(t, os.MkdirAll(dir, 0o755))
	for _, name := range names {
		text := "#!/bin/sh\necho \"postgres (PostgreSQL) " + version + " (Debian) $LD_LIBRARY_PATH\"\n"
		check(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	return dir
}

func TestMissingProgramIsNamedWithWhatToDo(t *testing.T) {
	t.Parallel()
	nowhere := lookup{path: t.TempDir(), deps: t.TempDir()}
	for program, k := range map[string]kind{"postgres": &postgres{look: nowhere}, "redis-server": &redis{look: nowhere}} {
		_, err := start(t.Context(), config(newDir(t)), k)
		var missing *MissingError
		if !errors.As(err, &missing) || !errors.Is(err, ErrMissing) {
			t.Fatalf("%s: got %v, want ErrMissing", program, err)
		}
		wantEqual(t, "program", missing.Program, program)
		for _, want := range []string{program, `run "make deps"`, nowhere.deps} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
}

func TestPathIsSearchedFirstThenTheNewestVersion(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	nine := fake(t, filepath.Join(root, "lib/9.6/bin"), "9.6.24", "postgres", "initdb")
	fake(t, filepath.Join(root, "lib/10/bin"), "10.1", "postgres") // no initdb: only a client package
	fifteen := fake(t, filepath.Join(root, "lib/15/bin"), "15.2", "postgres", "initdb")
	own := fake(t, filepath.Join(root, "own"), "14.0", "postgres", "initdb")
	look := lookup{globs: []string{filepath.Join(root, "lib/*/bin")}}
	for _, c := range []struct {
		path, major, want string
	}{
		{"", "", fifteen},
		{"", "9", nine},
		{own, "", own},
		{own, "15", fifteen},
	} {
		look.path = c.path
		got, _, err := look.postgres(t.Context(), c.major)
		check(t, err)
		wantEqual(t, "with PATH "+c.path+", version "+c.major, got.dir, c.want)
	}
	_, _, err := look.postgres(t.Context(), "16")
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "postgres 16") {
		t.Errorf("got %v, want a missing postgres 16", err)
	}
}

func TestUnpackedPackagesRunWithTheirOwnLibraries(t *testing.T) {
	t.Parallel()
	deps := t.TempDir()
	bin := fake(t, filepath.Join(deps, "usr/lib/postgresql/17/bin"), "17.1", "postgres", "initdb")
	libs := filepath.Join(deps, "usr/lib/x86_64-linux-gnu")
	check(t, os.MkdirAll(libs, 0o755))
	got, version, err := lookup{deps: deps}.postgres(t.Context(), "")
	check(t, err)
	wantEqual(t, "directory", got.dir, bin)
	wantEqual(t, "version", version, "17.1")
	if env := strings.Join(got.env(), "\n"); !strings.Contains(env, "LD_LIBRARY_PATH="+libs) {
		t.Errorf("environment %q lacks %s", env, libs)
	}
}

func TestBrokenProgramIsPassedOverAndNamedWhenItIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	broken := fake(t, filepath.Join(root, "broken"), "", "postgres", "initdb")
	works := fake(t, filepath.Join(root, "works"), "15.2", "postgres", "initdb")
	got, _, err := lookup{path: broken + string(os.PathListSeparator) + works}.postgres(t.Context(), "")
	check(t, err)
	wantEqual(t, "directory", got.dir, works)
	if _, _, err = (lookup{path: broken}).postgres(t.Context(), ""); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), broken) {
		t.Errorf("got %v, want ErrMissing that names %s", err, broken)
	}
}

func TestValkeyServesWhereThereIsNoRedis(t *testing.T) {
	t.Parallel()
	dir := fake(t, t.TempDir(), "8.1", "valkey-server")
	got, program, err := lookup{path: dir}.redis()
	check(t, err)
	wantEqual(t, "program", got.file(program), filepath.Join(dir, "valkey-server"))
}
