package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// environment is the variables of the process; those of a .env file come behind them.
type environment struct {
	vars   map[string]string
	behind map[string]string
}

func newEnvironment(environ []string) environment {
	vars := make(map[string]string, len(environ))
	for _, pair := range environ {
		name, value, _ := strings.Cut(pair, "=")
		vars[name] = value
	}
	return environment{vars: vars, behind: map[string]string{}}
}

// lookup is the value of a variable, or the content of the file that NAME_FILE names, without the line
// end; what the process has wins over what .env has. An empty variable counts as unset, as in compose
// files. Both set in one place is a configuration error.
func (e environment) lookup(name string) (value string, found bool, err error) {
	for _, vars := range []map[string]string{e.vars, e.behind} {
		direct, file := vars[name], vars[name+"_FILE"]
		switch {
		case direct != "" && file != "":
			return "", false, configError("%s and %s_FILE are both set; keep one", name, name)
		case file != "":
			value, err := readSecret(file)
			if err != nil {
				return "", false, configError("%s_FILE: %w", name, err)
			}
			return value, true, nil
		case direct != "":
			return direct, true, nil
		}
	}
	return "", false, nil
}

// set gives a variable a value that wins over every other.
func (e environment) set(name, value string) {
	for _, vars := range []map[string]string{e.vars, e.behind} {
		delete(vars, name)
		delete(vars, name+"_FILE")
	}
	e.vars[name] = value
}

// names lists all variables that are set, in no order.
func (e environment) names() []string {
	var names []string
	for name, value := range e.vars {
		if value != "" {
			names = append(names, name)
		}
	}
	for name, value := range e.behind {
		if value != "" && e.vars[name] == "" {
			names = append(names, name)
		}
	}
	return names
}

func readSecret(path string) (string, error) {
	const longest = 64 << 10
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > longest {
		return "", fmt.Errorf("%s is larger than %d bytes", path, longest)
	}
	content, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

// readDotEnv puts the variables of a .env file behind those of the process. A missing file is fine.
// Lines are NAME=value, with "export" and quotes allowed; # begins a comment line.
func (e environment) readDotEnv(path string) error {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return configError("read %s: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
		if !ok {
			return configError("%s:%d: want NAME=value", path, n)
		}
		e.behind[strings.TrimSpace(name)] = unquote(strings.TrimSpace(value))
	}
	return lines.Err()
}

func unquote(s string) string {
	for _, quote := range []string{`"`, `'`} {
		if len(s) >= 2 && strings.HasPrefix(s, quote) && strings.HasSuffix(s, quote) {
			return s[1 : len(s)-1]
		}
	}
	return s
}
