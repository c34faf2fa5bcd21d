package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// archive makes a bundle as `opa build` and `tar czf` do.
func archive(tb testing.TB, files map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		header := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o600, Size: int64(len(files[name]))}
		if err := w.WriteHeader(header); err != nil {
			tb.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// decides tells whether e denies with exactly that message; empty allows.
func decides(t *testing.T, e *Engine, in Input, want string) {
	t.Helper()
	if in.Now.IsZero() {
		in.Now = noon()
	}
	d, err := e.Decide(t.Context(), in)
	if got := strings.Join(d.Messages, ","); err != nil || d.Allow != (want == "") || got != want {
		t.Errorf("got %+v, %v; want message %q", d, err, want)
	}
}

const weekend = "o1-pro is not for weekends"

func TestADirectoryMayMixOldAndNewRegoAndData(t *testing.T) {
	t.Parallel()
	e := loadPath(t, "testdata/mixed")
	decides(t, e, Input{Model: "gpt-4o", Estimate: "0.5"}, "")
	decides(t, e, Input{Model: "o1-pro", Estimate: "0.5"}, weekend)
	decides(t, e, Input{Model: "o1-pro", Estimate: "0.5", Now: noon().AddDate(0, 0, 1)}, "")
	if d, err := e.Decide(t.Context(), Input{Now: noon(), Estimate: "1"}); err != nil || d.Allow {
		t.Errorf("got %+v, %v; want denied: dearer than data.limits", d, err)
	}
}

func TestABundleReadsLikeItsDirectory(t *testing.T) {
	t.Parallel()
	files := map[string]string{"/.manifest": `{"roots": [""], "revision": "7"}`, "./._junk.rego": "no rego"}
	for _, name := range []string{"allow.rego", "deny.rego", "calendar.rego", "policy_test.rego", "limits/data.yaml"} {
		content, err := os.ReadFile(filepath.Join("testdata/mixed", name))
		if err != nil {
			t.Fatal(err)
		}
		files["./"+name] = string(content)
	}
	e := loadPath(t, write(t, filepath.Join(t.TempDir(), "bundle.tar.gz"), string(archive(t, files))))
	decides(t, e, Input{Model: "gpt-4o", Estimate: "0.5"}, "")
	decides(t, e, Input{Model: "o1-pro", Estimate: "0.5"}, weekend)
}

func TestADirectoryLeavesOutTestsAndHiddenFilesAndFollowsLinks(t *testing.T) {
	t.Parallel()
	// A Kubernetes ConfigMap: the files are links through a hidden directory.
	dir := t.TempDir()
	write(t, filepath.Join(dir, "..2026", "policy.rego"), header+"allow := true")
	write(t, filepath.Join(dir, "policy_test.rego"), "no rego")
	write(t, filepath.Join(dir, ".policy.rego.swp"), "no rego")
	write(t, filepath.Join(dir, "README.md"), "no rego")
	for link, target := range map[string]string{"..data": "..2026", "policy.rego": "..data/policy.rego"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, outside); err != nil {
		t.Fatal(err)
	}
	decides(t, loadPath(t, dir), Input{}, "")
	decides(t, loadPath(t, outside), Input{}, "")
}

func TestTheRevisionOfADirectoryIsWhatSha256sumSays(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sh", "-c",
		"sha256sum allow.rego calendar.rego deny.rego limits/data.yaml | sha256sum | cut -c1-16")
	cmd.Dir = "testdata/mixed"
	want, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := loadPath(t, "testdata/mixed").Revision(); got != strings.TrimSpace(string(want)) {
		t.Errorf("revision %s, want %s", got, want)
	}
}

func TestAnUnusablePolicyIsRefusedWithItsReason(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("#\n", maxBytes/2+1)
	for name, c := range map[string]struct {
		file, text string
		kind       error
		says       string
	}{
		"unknown form":        {"policy.txt", "", ErrSource, "neither a .rego file"},
		"too large":           {"policy.rego", big, ErrSource, "larger than"},
		"syntax":              {"policy.rego", header + "allow {", ErrSyntax, "policy.rego:3"},
		"empty":               {"policy.rego", "", ErrSyntax, "policy.rego"},
		"other package":       {"policy.rego", "package other\nallow := true", ErrNoAllow, ""},
		"no allow":            {"policy.rego", header + "deny contains \"x\"", ErrNoAllow, ""},
		"unknown function":    {"policy.rego", header + "allow if nothing(1)", nil, "undefined function nothing"},
		"recursion":           {"policy.rego", header + "allow if allow", nil, "recursive"},
		"no archive":          {"policy.tar.gz", "no archive at all", ErrSource, "gzip"},
		"no module":           {"policy.wasm", "text", nil, "policy.wasm"},
		"data over the rules": {"policy.tar.gz", string(archive(t, map[string]string{"p.rego": header + "allow := false", "budgetguard/policy/data.json": `{"allow": true}`})), ErrSource, "belongs to the rules"},
		"data twice":          {"policy.tar.gz", string(archive(t, map[string]string{"p.rego": header + "allow := true", "a/data.json": `{"b": 1}`, "data.json": `{"a": {"b": 2}}`})), ErrSource, "another data file"},
		"broken data":         {"policy.tar.gz", string(archive(t, map[string]string{"p.rego": header + "allow := true", "data.json": `{`})), ErrSource, "data.json"},
		"broken manifest":     {"policy.tar.gz", string(archive(t, map[string]string{"p.rego": header + "allow := true", ".manifest": `{`})), ErrSource, "manifest"},
		"file twice":          {"policy.tar.gz", string(archive(t, map[string]string{"p.rego": header + "allow := true", "/p.rego": header + "allow := false"})), ErrSource, "p.rego comes twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(write(t, filepath.Join(t.TempDir(), c.file), c.text))
			if err == nil || !strings.Contains(err.Error(), c.says) || (c.kind != nil && !errors.Is(err, c.kind)) {
				t.Errorf("got %v; want kind %v, text %q", err, c.kind, c.says)
			}
		})
	}
}

func TestAMissingPolicyIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"nowhere.rego", "nowhere"} {
		if _, err := Load(filepath.Join(t.TempDir(), path)); !errors.Is(err, ErrSource) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v; want ErrSource and fs.ErrNotExist", path, err)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNoAllow) {
		t.Errorf("empty directory: got %v; want ErrNoAllow", err)
	}
}

func TestAnOldFileThatParsesAsNewRegoStillLoads(t *testing.T) {
	t.Parallel()
	// No rule has a body, so v1 parses it; it then misses any(), which is v0's.
	e := loadText(t, "allow = any([true, false])")
	decides(t, e, Input{}, "")
}

func TestAnArchiveThatInflatesWithoutEndIsRefused(t *testing.T) {
	t.Parallel()
	const limit = 1 << 16
	rules := header + "allow := true"
	for name, files := range map[string]map[string]string{
		"in a file that counts":  {"a.rego": rules, "data.json": strings.Repeat(" ", limit)},
		"in a file that is left": {"ignored.bin": strings.Repeat("\x00", 2*limit), "p.rego": rules},
	} {
		if _, err := unpack(archive(t, files), limit); err == nil {
			t.Errorf("%s: unpacked", name)
		}
	}
}

func TestADirectoryThatIsNoPolicyIsRefusedBeforeItFillsTheMemory(t *testing.T) {
	t.Parallel()
	many, large, dangling := t.TempDir(), t.TempDir(), t.TempDir()
	for i := range maxFiles + 1 {
		write(t, filepath.Join(many, strconv.Itoa(i)+".rego"), header)
	}
	half := strings.Repeat(" ", maxBytes/2+1)
	write(t, filepath.Join(large, "a", "data.json"), half)
	write(t, filepath.Join(large, "b", "data.json"), half)
	if err := os.Symlink("nowhere.rego", filepath.Join(dangling, "policy.rego")); err != nil {
		t.Fatal(err)
	}
	for says, dir := range map[string]string{"more than": many, "larger than": large, "policy.rego": dangling} {
		if _, err := Load(dir); !errors.Is(err, ErrSource) || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v; want ErrSource, text %q", err, says)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(archive(f, map[string]string{"policy.rego": header, "data.json": "{}"}))
	f.Add(archive(f, map[string]string{"../../etc/policy.rego": header, ".manifest": "{}", "a/.hidden.rego": "x"}))
	f.Add([]byte("\x1f\x8b"))
	f.Fuzz(func(t *testing.T, b []byte) {
		files, err := unpack(b, maxBytes)
		total := 0
		for name, content := range files {
			total += len(content)
			if strings.HasPrefix(name, "/") || strings.Contains("/"+name+"/", "/../") || !wanted(name) {
				t.Fatalf("unpacked %q", name)
			}
		}
		if err != nil && files != nil || total > maxBytes || len(files) > maxFiles {
			t.Fatalf("%d files of %d bytes, %v", len(files), total, err)
		}
	})
}
