package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
)

// setting is one variable of the contract. Each is a flag too, a secret only as --name-file.
type setting struct {
	name    string
	initial string
	secret  bool
	help    string
}

// The variables, by what needs them.
func storageSettings() []setting {
	return []setting{
		{"DATABASE_URL", "", true, "Postgres"},
		{"REDIS_URL", "", true, "Redis"},
	}
}

func commonSettings() []setting {
	return []setting{
		{"LOG_LEVEL", "info", false, "debug, info, warn or error"},
		{"LOG_FORMAT", "", false, "json or text; default json, text on a terminal"},
	}
}

func reaperSettings() []setting {
	return []setting{{"EXPIRY_POLICY", "charge", false, "what an overdue hold becomes: charge, or release (makes budgets soft)"}}
}

func gatewaySettings() []setting {
	return append(slices.Concat(budgetSettings(), reaperSettings(), orphanSettings()), []setting{
		{"PORT", "3000", false, "listener; 0 picks a free port and prints it"},
		{"HOST", "0.0.0.0", false, "address to listen on"},
		{"ADMIN_ADDR", "", false, "moves /admin, /metrics and /docs to a listener of their own"},
		{"OPENAI_KEY", "", true, "upstream key; X-OpenAI-Key on a request wins"},
		{"OPENAI_BASE_URL", "https://api.openai.com/v1", false, "upstream"},
		{"OPENAI_SERVICE_TIER", "default", false, "tier that an absent or auto service_tier is priced at; auto is the dearest"},
		{"ADMIN_API_KEY", "", true, "for X-Admin-Key; without it /admin answers 503"},
		{"TENANT_AUTH", "required", false, "required or optional (X-Tenant-Id alone accepted for tenants without keys)"},
		{"MAX_AUTO_TENANTS", "100", false, "tenants made on first use with TENANT_AUTH=optional"},
		{"MAX_REQS_PER_MIN", "100", false, "per tenant; 0 is none; a tenant's own setting wins"},
		{"OPA_POLICY_PATH", "", false, ".rego file, directory, bundle .tar.gz or .wasm; default embedded"},
		{"PRICES_PATH", "", false, "JSON catalogue; default embedded"},
		{"RESERVATION_TTL", "15m", false, "life of a hold"},
		{"RECORDER_DIR", ".budgetguard/recorder", false, "directory of the flight recorder, on a disk of this machine; off keeps none"},
		{"UPSTREAM_TIMEOUT", "10m", false, "an upstream call"},
		{"STREAM_KEEPALIVE", "0s", false, "silence of the provider after which a stream gets a comment; 0s sends none"},
		{"DRAIN_TIMEOUT", "60s", false, "reading on after the client has gone"},
		{"SHUTDOWN_TIMEOUT", "30s", false, "finishing streams at stop"},
		{"KEY_PEPPER", "", true, "HMAC key of stored tenant keys"},
		{"ERROR_FORMAT", "auto", false, "auto, plain or openai"},
		{"CORS_ORIGINS", "", false, "origins whose pages may call from a browser, comma list or *; default none"},
		{"TRUSTED_PROXIES", "", false, "CIDRs whose X-Forwarded-For counts"},
		{"MAX_BODY_BYTES", "33554432", false, "limit of a request body"},
		{"MAX_INFLIGHT_BODY_BYTES", "268435456", false, "memory for the bodies of all requests, three times their size"},
	}...)
}

func budgetSettings() []setting {
	return []setting{
		{"BUDGET_PERIODS", "monthly", false, "comma list of hourly, daily, weekly, monthly, quarterly, yearly, total, custom"},
		{"BUDGET_START_DATE", "", false, "first day of the period custom, or an RFC 3339 instant"},
		{"BUDGET_END_DATE", "", false, "last day of the period custom, or the RFC 3339 instant at which it is over"},
		{"DEFAULT_BUDGET_USD", "", false, "limit of each listed period"},
		{"MAX_MONTHLY_USD", "", false, "monthly limit"},
	}
}

// values are the settings of one command, read by flag, environment, .env and default in that order.
type values struct {
	environ environment
	command *cobra.Command
	known   map[string]setting
	err     error // the first that was wrong
}

// bind adds the flags of settings to a command. Their values are read when it runs.
func bind(c *cobra.Command, groups ...[]setting) map[string]setting {
	known := map[string]setting{}
	for _, s := range slices.Concat(groups...) {
		known[s.name] = s
		help := s.help + " (" + s.name + ")"
		if s.secret {
			c.Flags().String(flagName(s.name)+"-file", "", "file with "+s.name+": "+s.help)
			continue
		}
		c.Flags().String(flagName(s.name), s.initial, help)
	}
	return known
}

func flagName(variable string) string { return strings.ToLower(strings.ReplaceAll(variable, "_", "-")) }

// text is a setting's value, empty where it has none.
func (v *values) text(name string) string {
	s, ok := v.known[name]
	if !ok {
		panic("setting " + name + " is not bound to " + v.command.Name())
	}
	flag := flagName(name)
	if s.secret {
		flag += "-file"
	}
	if f := v.command.Flags().Lookup(flag); f != nil && f.Changed {
		if !s.secret {
			return f.Value.String()
		}
		content, err := readSecret(f.Value.String())
		v.check(name, err)
		return content
	}
	value, found, err := v.environ.lookup(name)
	v.check(name, err)
	if !found {
		return s.initial
	}
	return value
}

// isDefault tells whether nobody has set a setting, or set it to what it is anyway.
func (v *values) isDefault(name string) bool { return v.text(name) == v.known[name].initial }

func (v *values) check(name string, err error) {
	if err != nil && v.err == nil {
		v.err = configError("%s: %w", name, err)
	}
}

func (v *values) duration(name string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(v.text(name))
	if err != nil || d < least || d > most {
		err = fmt.Errorf("want a duration such as 30s or 15m, from %s to %s", least, most)
	}
	v.check(name, err)
	return d
}

func (v *values) number(name string, least, most int64) int64 {
	n, err := strconv.ParseInt(v.text(name), 10, 64)
	if err != nil || n < least || n > most {
		err = fmt.Errorf("want a whole number from %d to %d", least, most)
	}
	v.check(name, err)
	return n
}

func (v *values) choice(name string, allowed ...string) string {
	value := v.text(name)
	if !slices.Contains(allowed, value) {
		v.check(name, fmt.Errorf("want one of %s", strings.Join(allowed, ", ")))
	}
	return value
}

// base is a setting that is an http or https URL.
func (v *values) base(name string) *url.URL {
	u, err := url.Parse(v.text(name))
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		// The value is not quoted: it may hold a password.
		u, err = &url.URL{}, fmt.Errorf("want a URL such as https://api.openai.com/v1")
	}
	v.check(name, err)
	return u
}

func (v *values) prefixes(name string) []netip.Prefix {
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(v.text(name), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		p, err := netip.ParsePrefix(part)
		if err != nil {
			v.check(name, fmt.Errorf("want networks such as 10.0.0.0/8, separated by commas"))
		}
		prefixes = append(prefixes, p)
	}
	return prefixes
}

// needed is a setting the command cannot run without.
func (v *values) needed(name string) string {
	value := v.text(name)
	if value == "" {
		v.check(name, fmt.Errorf("is not set; set %s or %s_FILE", name, name))
		return ""
	}

	// A URL that cannot be read is not quoted, nor is what its reader says of it: it may hold a password.
	switch name {
	case "DATABASE_URL":
		if _, err := pgconn.ParseConfig(value); err != nil {
			v.check(name, errors.New("want postgres://user:password@host:5432/database"))
		}
	case "REDIS_URL":
		if _, err := redis.ParseURL(value); err != nil {
			v.check(name, errors.New("want redis://[user:password@]host:6379[/0]"))
		}
	}
	return value
}
