package embedded

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// lookup says where programs are searched, in this order.
type lookup struct {
	path  string   // the list of directories of $PATH
	globs []string // directories as glob patterns; of several matches the newest version wins
	deps  string   // a tree that `make deps` unpacked packages into, without root
}

// systemLookup is the machine's own: PATH, the folders of the usual packages,
// and the cache of `make deps` (BUDGETGUARD_DEPS, else ~/.cache/budgetguard/deps).
func systemLookup() lookup {
	deps := os.Getenv("BUDGETGUARD_DEPS")
	if home, err := os.UserHomeDir(); deps == "" && err == nil {
		deps = filepath.Join(home, ".cache", "budgetguard", "deps")
	}
	return lookup{
		path: os.Getenv("PATH"),
		globs: []string{
			"/usr/lib/postgresql/*/bin",           // Debian, Ubuntu
			"/usr/pgsql-*/bin",                    // RHEL with PGDG
			"/usr/libexec/postgresql*",            // Alpine
			"/usr/local/pgsql/bin",                // built from source
			"/opt/homebrew/opt/postgresql*/bin",   // Homebrew on Apple silicon
			"/usr/local/opt/postgresql*/bin",      // Homebrew on Intel
			"/opt/homebrew/bin", "/usr/local/bin", // Homebrew's Redis
			"/usr/bin", "/usr/sbin", "/usr/local/sbin", // a PATH that was cut short
		},
		deps: deps,
	}
}

// programs is a directory that has what was asked for.
type programs struct {
	dir  string
	libs []string // for LD_LIBRARY_PATH: the programs come from the deps tree
}

// file is the full path of one program.
func (p programs) file(name string) string { return filepath.Join(p.dir, name) }

// env is the whole environment of a child. Nothing is inherited: PGDATA, PGPORT
// or a locale of the user's would change what the server does.
func (p programs) env() []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC"}
	if len(p.libs) > 0 {
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(p.libs, ":"))
	}
	return env
}

// find answers the directories that hold all names, best first.
func (l lookup) find(names ...string) []programs {
	var found []programs
	for _, dir := range filepath.SplitList(l.path) {
		found = appendIfHas(found, programs{dir: dir}, names)
	}
	for _, glob := range l.globs {
		for _, dir := range newestFirst(glob) {
			found = appendIfHas(found, programs{dir: dir}, names)
		}
	}
	if l.deps == "" {
		return found
	}
	libs := l.libraries()
	for _, glob := range []string{"usr/lib/postgresql/*/bin", "usr/bin"} {
		for _, dir := range newestFirst(filepath.Join(l.deps, glob)) {
			found = appendIfHas(found, programs{dir: dir, libs: libs}, names)
		}
	}
	return found
}

// libraries lists the folders of shared libraries in the deps tree: lib, and lib/<architecture>.
func (l lookup) libraries() []string {
	var libs []string
	for _, glob := range []string{"usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib", "lib"} {
		matches, err := filepath.Glob(filepath.Join(l.deps, glob))
		if err == nil {
			libs = append(libs, matches...)
		}
	}
	return libs
}

// places names what find searches, for people.
func (l lookup) places() []string {
	places := append([]string{"PATH"}, l.globs...)
	if l.deps != "" {
		places = append(places, l.deps)
	}
	return places
}

// newestFirst sorts the matches of a glob by the last number in them, so that
// version 17 comes before 9.
func newestFirst(glob string) []string {
	matches, err := filepath.Glob(glob)
	if err != nil { // only a malformed pattern, and then there is nothing to find
		return nil
	}
	digits := regexp.MustCompile(`\d+(\.\d+)?`)
	version := func(path string) float64 {
		all := digits.FindAllString(path, -1)
		if len(all) == 0 {
			return 0
		}
		v, err := strconv.ParseFloat(all[len(all)-1], 64)
		if err != nil {
			return 0
		}
		return v
	}
	slices.SortStableFunc(matches, func(a, b string) int { return cmp.Compare(version(b), version(a)) })
	return matches
}

func appendIfHas(found []programs, p programs, names []string) []programs {
	for _, name := range names {
		info, err := os.Stat(p.file(name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return found
		}
	}
	// Debian's and Fedora's folders in PATH are often links to one another, and
	// Postgres finds its share folder from where the program really is.
	if target, err := filepath.EvalSymlinks(p.file(names[0])); err == nil {
		if dir := filepath.Dir(target); hasAll(dir, names) {
			p.dir = dir
		}
	}
	return append(found, p)
}

func hasAll(dir string, names []string) bool {
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// postgres answers programs of the given major version ("" for any) and the full version.
func (l lookup) postgres(ctx context.Context, major string) (programs, string, error) {
	var last error
	for _, p := range l.find("postgres", "initdb") {
		version, err := p.version(ctx)
		if err != nil {
			last = err // broken, perhaps without its libraries: another may work
			continue
		}
		if major == "" || majorOf(version) == major {
			return p, version, nil
		}
	}
	missing := &MissingError{Program: "postgres", Major: major, Looked: l.places()}
	if last != nil {
		return programs{}, "", fmt.Errorf("%w (found, but %w)", missing, last)
	}
	return programs{}, "", missing
}

// redis answers the path of redis-server, or of Valkey's, which some distributions have in its place.
func (l lookup) redis() (programs, string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if found := l.find(name); len(found) > 0 {
			return found[0], name, nil
		}
	}
	return programs{}, "", &MissingError{Program: "redis-server", Looked: l.places()}
}

// version asks postgres for its own, such as "15.18".
func (p programs) version(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, p.file("postgres"), "--version") //nolint:gosec // a program found in a system folder
	cmd.Env = p.env()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", p.file("postgres"), err)
	}
	version := regexp.MustCompile(`\d+(\.\d+)*`).FindString(string(out))
	if version == "" {
		return "", fmt.Errorf("ask %s for its version: got %q", p.file("postgres"), out)
	}
	return version, nil
}

// majorOf cuts "15.18" to "15", as PG_VERSION in a data directory has it.
func majorOf(version string) string {
	major, _, _ := strings.Cut(version, ".")
	return major
}
