package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/budgetguard/budgetguard/internal/testenv"
)

// composeFolder has what docker-compose.yml mounts into its one-shot services.
const composeFolder = "../../scripts/compose/"

// makeSecrets runs the service `secrets` in a directory of the test's own, with what .env would say.
func makeSecrets(t *testing.T, root string, env ...string) (output string, err error) {
	t.Helper()
	for _, dir := range []string{"run/budgetguard/app", "run/budgetguard/owner", "run/secrets"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", composeFolder+"secrets.sh")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "SECRETS_ROOT=" + root}, env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func secret(t *testing.T, root, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "run", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestComposeMakesEachSecretOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	names := []string{
		"budgetguard/app/admin_api_key", "budgetguard/app/app_password",
		"budgetguard/owner/postgres_password",
	}

	first := map[string]string{}
	for range 2 {
		out, err := makeSecrets(t, root)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, name := range names {
			got := secret(t, root, name)
			if len(got) < 64 || first[name] != "" && got != first[name] {
				t.Errorf("%s is %q after %q", name, got, first[name])
			}
			if strings.Contains(out, got) {
				t.Errorf("the log shows %s: %s", name, out)
			}
			first[name] = got
		}
	}
}

func TestComposeTakesSecretsFromTheEnvironmentOrFromFiles(t *testing.T) {
	t.Parallel()
	for variable, name := range map[string]string{
		"ADMIN_API_KEY":     "budgetguard/app/admin_api_key",
		"OPENAI_KEY":        "budgetguard/app/openai_key",
		"POSTGRES_PASSWORD": "budgetguard/owner/postgres_password",
	} {
		root := t.TempDir()
		if out, err := makeSecrets(t, root, variable+"=from-the-environment"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := secret(t, root, name); got != "from-the-environment" {
			t.Errorf("%s by %s: %q", name, variable, got)
		}

		file := filepath.Join(root, "run/secrets", strings.ToLower(variable))
		if err := os.WriteFile(file, []byte("from-a-file\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := makeSecrets(t, root); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := secret(t, root, name); got != "from-a-file" {
			t.Errorf("%s by %s_FILE: %q", name, variable, got)
		}

		out, err := makeSecrets(t, root, variable+"=from-the-environment")
		if err == nil || !strings.Contains(out, variable+" and "+variable+"_FILE are both set") {
			t.Errorf("%s and its file: %v, %s", variable, err, out)
		}
	}
}

func TestComposeForgetsAProviderKeyThatLeftTheEnvironment(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, env := range [][]string{{"OPENAI_KEY=sk-real"}, nil} {
		if out, err := makeSecrets(t, root, env...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if got := secret(t, root, "budgetguard/app/openai_key"); got != "sk-mock" {
		t.Errorf("the key is %q", got)
	}
}

func TestComposeTakesAnyPasswordOfTheDatabase(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"a@b:c/d?e#f%g", " with spaces ", "ü€", `q'"$\`, "100%25"} {
		root := t.TempDir()
		if out, err := makeSecrets(t, root, "POSTGRES_PASSWORD="+password); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		address := secret(t, root, "budgetguard/owner/migrate_database_url")
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Password != password || cfg.Host != "postgres" || cfg.User != "budgetguard" {
			t.Errorf("%q became %q of %s at %s", password, cfg.Password, cfg.User, cfg.Host)
		}
	}
}

// TestTheRoleOfComposeHasTheGrantsOfTheGuide compares the words, since the rights themselves are tried by
// the tests of the guide.
func TestTheRoleOfComposeHasTheGrantsOfTheGuide(t *testing.T) {
	t.Parallel()
	grants := func(file string) []string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^grant [^;]*;`).FindAllString(string(raw), -1)
		for i := range found {
			found[i] = strings.Join(strings.Fields(found[i]), " ")
		}
		return found
	}
	guide, role := grants("../../docs/operations.md"), grants(composeFolder+"roles.sql")
	if len(guide) < 5 || strings.Join(guide, "\n") != strings.Join(role, "\n") {
		t.Errorf("docs/operations.md has\n%s\nscripts/compose/roles.sql has\n%s",
			strings.Join(guide, "\n"), strings.Join(role, "\n"))
	}
}

func TestComposeSeedsUnderTheRoleThatOwnsNothingAndIssuesOneKey(t *testing.T) {
	t.Parallel()
	owner := testenv.Server(t).URL()
	app := composeRole(t, owner)

	first := start(t, []string{"DATABASE_URL=" + app}, "seed", "--once")
	if code := first.wait(t); code != exitOK || !strings.Contains(first.output(), "key    bgk_") {
		t.Fatalf("exit %d", code)
	}
	again := start(t, []string{"DATABASE_URL=" + app}, "seed", "--once")
	if code := again.wait(t); code != exitOK || strings.Contains(again.output(), "bgk_") {
		t.Errorf("exit %d: %s", code, again.output())
	}

	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	var keys int
	if err := conn.QueryRow(t.Context(), "select count(*) from api_key").Scan(&keys); err != nil {
		t.Fatal(err)
	}
	if keys != 1 {
		t.Errorf("%d keys after two starts", keys)
	}
}

// composeRole makes the role of the service `roles`, twice as two starts do, and returns its URL.
func composeRole(t *testing.T, owner string) string {
	t.Helper()
	roles, err := os.ReadFile(composeFolder + "roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	for range 2 {
		if _, err := conn.Exec(t.Context(), string(roles)); err != nil {
			t.Fatal(err)
		}
	}
	_, err = conn.Exec(t.Context(), "alter role budgetguard_app login password 'secret'")
	if err != nil {
		t.Fatal(err)
	}

	var powers bool
	err = conn.QueryRow(t.Context(), `select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls
	  or exists (select from pg_class where relowner = pg_roles.oid)
	  from pg_roles where rolname = 'budgetguard_app'`).Scan(&powers)
	if err != nil || powers {
		t.Errorf("the role has powers of its own or owns tables: %t, %v", powers, err)
	}
	address, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword("budgetguard_app", "secret")
	return address.String()
}
