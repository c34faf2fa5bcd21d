package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ErrSource is the kind of every error about a policy that cannot be read:
// missing, of an unknown form, too large.
var ErrSource = errors.New("policy cannot be read")

// Bounds of a policy. Both are far above what people write, and keep a wrong
// path (a home directory, an archive that inflates without end) from filling
// the memory of the gateway, which reads the policy once a second.
const (
	maxFiles = 1000
	maxBytes = 16 << 20
)

//go:embed default.rego
var defaultRego []byte

//go:embed default_test.rego
var defaultTestRego []byte

// source is a policy as read: the files that make it, by slash-separated path.
type source struct {
	name        string
	files       map[string][]byte
	fingerprint string // SHA-256 in hex; see Policy.Revision.
}

// readSource reads the policy at name; empty is the embedded default.
func readSource(name string) (source, error) {
	if name == "" {
		src := file("default.rego", defaultRego)
		src.files["default_test.rego"] = defaultTestRego
		return src, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return source{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	if info.IsDir() {
		return readDir(name)
	}
	base := filepath.Base(name)
	archive := strings.HasSuffix(base, ".tar.gz") || strings.HasSuffix(base, ".tgz")
	if ext := path.Ext(base); !archive && ext != ".rego" && ext != ".wasm" {
		return source{}, fmt.Errorf("%w: %s is neither a .rego file, a directory, a bundle .tar.gz nor a .wasm module", ErrSource, name)
	}
	f, err := os.Open(name) //nolint:gosec // the operator names the policy; no request does
	if err != nil {
		return source{}, fmt.Errorf("%w: %w", ErrSource, err)
	}
	content, err := readBounded(f, maxBytes)
	if err = errors.Join(err, f.Close()); err != nil {
		return source{}, fmt.Errorf("%w: %s: %w", ErrSource, name, err)
	}
	src := file(base, content)
	src.name = name
	if archive {
		if src.files, err = unpack(content, maxBytes); err != nil {
			return source{}, fmt.Errorf("%w: %s: %w", ErrSource, name, err)
		}
	}
	return src, nil
}

func file(name string, content []byte) source {
	sum := sha256.Sum256(content)
	return source{name: name, files: map[string][]byte{name: content}, fingerprint: hex.EncodeToString(sum[:])}
}

// readDir reads the files below a directory. Links to files are followed (a
// Kubernetes ConfigMap consists of them), links to directories are not.
func readDir(name string) (source, error) {
	src := source{name: name, files: map[string][]byte{}}
	left := maxBytes
	root := os.DirFS(name)
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
			return nil
		}
		if !wanted(p) {
			return nil
		}
		if info, err := fs.Stat(root, p); err != nil || !info.Mode().IsRegular() {
			return err
		}
		if len(src.files) == maxFiles {
			return fmt.Errorf("more than %d files", maxFiles)
		}
		f, err := root.Open(p)
		if err != nil {
			return err
		}
		content, err := readBounded(f, left)
		left -= len(content)
		src.files[p] = content
		return errors.Join(err, f.Close())
	})
	if err != nil {
		return source{}, fmt.Errorf("%w: %s: %w", ErrSource, name, err)
	}
	src.fingerprint = listing(src.files)
	return src, nil
}

// listing hashes what sha256sum prints for files, tests left out.
func listing(files map[string][]byte) string {
	var all bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if !isTest(p) {
			fmt.Fprintf(&all, "%x  %s\n", sha256.Sum256(files[p]), p)
		}
	}
	sum := sha256.Sum256(all.Bytes())
	return hex.EncodeToString(sum[:])
}

// unpack reads a bundle of at most left bytes. Its signatures are not looked at: who can replace the
// file can replace the gateway's configuration as well.
func unpack(archive []byte, left int) (map[string][]byte, error) {
	inflated, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	// Twice: a bound on what is skipped as well, headers included.
	entries := tar.NewReader(io.LimitReader(inflated, 2*int64(left)))
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		p := strings.TrimPrefix(path.Clean("/"+entry.Name), "/")
		if entry.Typeflag != tar.TypeReg || !wanted(p) {
			continue
		}
		if _, twice := files[p]; twice || len(files) == maxFiles {
			return nil, fmt.Errorf("%s comes twice, or as file %d", p, maxFiles+1)
		}
		content, err := readBounded(entries, left)
		if err != nil {
			return nil, err
		}
		left -= len(content)
		files[p] = content
	}
}

// wanted tells whether a file is part of a policy: Rego, data, a bundle's
// manifest, WASM; nothing hidden.
func wanted(p string) bool {
	if p == manifestName {
		return true
	}
	if strings.HasPrefix(p, ".") || strings.Contains(p, "/.") {
		return false
	}
	ext := path.Ext(p)
	return ext == ".rego" || ext == ".wasm" || isData(p)
}

func isData(p string) bool {
	base := path.Base(p)
	return base == "data.json" || base == "data.yaml" || base == "data.yml"
}

func isTest(p string) bool {
	return strings.HasSuffix(p, "_test.rego")
}

func readBounded(r io.Reader, limit int) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("larger than %d bytes", maxBytes)
	}
	return content, nil
}
