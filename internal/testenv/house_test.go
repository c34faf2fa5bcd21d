package testenv_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// root is the module's directory, seen from here.
const root = "../.."

// composeFile is what these tests read of docker-compose.yml.
type composeFile struct {
	Services map[string]struct {
		Image string `yaml:"image"`
		Build struct {
			Context string            `yaml:"context"`
			Args    map[string]string `yaml:"args"`
		} `yaml:"build"`
		Command     []string          `yaml:"command"`
		Environment map[string]string `yaml:"environment"`
		Ports       []string          `yaml:"ports"`
		Volumes     []string          `yaml:"volumes"`
		Restart     string            `yaml:"restart"`
		HealthCheck struct {
			Test    []string `yaml:"test"`
			Disable bool     `yaml:"disable"`
		} `yaml:"healthcheck"`
		DependsOn map[string]struct {
			Condition string `yaml:"condition"`
		} `yaml:"depends_on"`
	} `yaml:"services"`
	Volumes map[string]any `yaml:"volumes"`
}

func compose(t *testing.T) composeFile {
	t.Helper()
	var c composeFile
	check(t, yaml.Unmarshal(read(t, "docker-compose.yml"), &c))
	return c
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, name))
	check(t, err)
	return raw
}

// commands are those that the program adds to its root.
func commands(t *testing.T) []string {
	t.Helper()
	return matches(t, `Use:\s+"([a-z-]+)`)
}

// settings are the variables that the program reads.
func settings(t *testing.T) []string {
	t.Helper()
	return matches(t, `\{"([A-Z][A-Z_]+)", "[^"]*", (?:true|false), `)
}

func matches(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "cmd/budgetguard/*.go"))
	check(t, err)
	var found []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		check(t, err)
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(raw), -1) {
			found = append(found, m[1])
		}
	}
	if len(found) < 5 {
		t.Fatalf("%s found only %q in cmd/budgetguard: has its form changed?", pattern, found)
	}
	return found
}

// examples are the variables of .env.example.
func examples(t *testing.T) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(string(read(t, ".env.example"))) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			t.Errorf(".env.example: %q is not a comment: a copy would change a default", line)
		}
		if m := regexp.MustCompile(`^# ([A-Z][A-Z_]+)=`).FindStringSubmatch(line); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

func TestEveryVariableIsInTheExample(t *testing.T) {
	t.Parallel()
	listed := examples(t)
	for _, name := range settings(t) {
		if !slices.Contains(listed, name) {
			t.Errorf(".env.example lacks %s", name)
		}
	}
}

func TestComposeRunsCommandsAndVariablesThatExist(t *testing.T) {
	t.Parallel()
	known, listed := commands(t), examples(t)
	for name, s := range compose(t).Services {
		if s.Image != "budgetguard:local" {
			continue
		}
		if s.Build.Context != "." || s.Build.Args["VERSION"] != "${VERSION:-dev}" {
			t.Errorf("%s: its image is built from %+v", name, s.Build)
		}
		if len(s.Command) == 0 || !slices.Contains(known, s.Command[0]) {
			t.Errorf("%s: %q is no command of %q", name, s.Command, known)
		}
		for variable := range s.Environment {
			if !slices.Contains(listed, strings.TrimSuffix(variable, "_FILE")) {
				t.Errorf("%s: no variable is called %s", name, variable)
			}
		}
	}
}

func TestComposeStartsThingsInOrder(t *testing.T) {
	t.Parallel()
	services := compose(t).Services
	for _, name := range []string{"secrets", "postgres", "redis", "migrate", "roles", "seed", "mock-upstream", "gateway", "worker"} {
		if _, ok := services[name]; !ok {
			t.Errorf("there is no service %s", name)
		}
	}
	for name, s := range services {
		for on, how := range s.DependsOn {
			other, ok := services[on]
			if !ok {
				t.Errorf("%s depends on %s, which does not exist", name, on)
			}
			switch how.Condition {
			case "service_healthy":
				if len(other.HealthCheck.Test) == 0 {
					t.Errorf("%s waits for the health of %s, which has no check", name, on)
				}
			case "service_completed_successfully":
				if other.Restart != "on-failure" {
					t.Errorf("%s waits for the end of %s, which restarts %q", name, on, other.Restart)
				}
			default:
				t.Errorf("%s depends on %s by %q", name, on, how.Condition)
			}
		}
		if len(s.HealthCheck.Test) == 0 && !s.HealthCheck.Disable {
			t.Errorf("%s has no health check", name)
		}
	}
}

func TestComposeIsPublishedOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	c := compose(t)
	for name, s := range c.Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") || name != "gateway" {
				t.Errorf("%s publishes %s", name, port)
			}
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(source, "./") {
				_ = read(t, source) // a missing file would be made, as a directory, by Docker
				continue
			}
			if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: the volume %s is not declared", name, source)
			}
		}
	}
	if got := c.Services["gateway"].Environment["TENANT_AUTH"]; got != "${TENANT_AUTH:-optional}" {
		t.Errorf("TENANT_AUTH of the gateway is %q", got)
	}
	redis := strings.Join(c.Services["redis"].Command, " ")
	for _, want := range []string{"--appendonly yes", "--maxmemory-policy noeviction"} {
		if !strings.Contains(redis, want) {
			t.Errorf("redis runs %q without %q", redis, want)
		}
	}
}

func TestImageCarriesAllPackagesOfTheBinary(t *testing.T) {
	t.Parallel()
	ignore := string(read(t, ".dockerignore"))
	entries, err := os.ReadDir(root)
	check(t, err)
	for _, e := range entries {
		sources, err := filepath.Glob(filepath.Join(root, e.Name(), "*.go"))
		check(t, err)
		below, err := filepath.Glob(filepath.Join(root, e.Name(), "*", "*.go"))
		check(t, err)
		if len(sources)+len(below) > 0 && !strings.Contains(ignore, "\n!"+e.Name()+"\n") {
			t.Errorf(".dockerignore keeps %s from the build", e.Name())
		}
	}
	file := string(read(t, "Dockerfile"))
	for _, want := range []string{"CGO_ENABLED=0", "-trimpath", "USER nonroot", `CMD ["/budgetguard", "health"]`} {
		if !strings.Contains(file, want) {
			t.Errorf("Dockerfile lacks %s", want)
		}
	}
}
