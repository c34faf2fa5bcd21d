package admin

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/budgetguard/budgetguard/domain"
)

// query reads a query string as fields reads a body: unknown and repeated parameters are refused, since
// a filter that is ignored shows somebody else's numbers.
type query struct {
	values url.Values
	found  *[]violation
}

// newQuery parses a raw query; known are the parameters of the route.
func newQuery(raw string, known []string) query {
	q := query{found: &[]violation{}}
	values, err := url.ParseQuery(raw)
	if err != nil {
		*q.found = append(*q.found, violation{Parameter: "?", Detail: "the query string is malformed"})
	}
	q.values = values
	for name, all := range values {
		switch {
		case !slices.Contains(known, name):
			q.refuse(name, "unknown parameter")
		case len(all) > 1:
			q.refuse(name, "want it once")
		}
	}
	slices.SortFunc(*q.found, func(a, b violation) int { return strings.Compare(a.Parameter, b.Parameter) })
	return q
}

func (q query) refuse(name, format string, args ...any) {
	const longest = 80
	if len(*q.found) < maxViolations {
		*q.found = append(*q.found, violation{Parameter: strings.ToValidUTF8(name[:min(len(name), longest)], ""), Detail: fmt.Sprintf(format, args...)})
	}
}

func (q query) problem() error {
	if len(*q.found) == 0 {
		return nil
	}
	return invalidRequest("The query has parameters that are not acceptable.", *q.found...)
}

// whole reads a number from least to most; absent is fallback.
func (q query) whole(name string, fallback, least, most int64) int64 {
	text := q.values.Get(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		q.refuse(name, "want a whole number from %d to %d", least, most)
		return fallback
	}
	return n
}

func (q query) instant(name string, fallback time.Time) time.Time {
	text := q.values.Get(name)
	if text == "" {
		return fallback
	}
	// The plus of an offset is a space to whoever forgets to escape it, and RFC 3339 has no spaces.
	at, err := parseInstant(strings.ReplaceAll(text, " ", "+"))
	if err != nil {
		q.refuse(name, "%s", err)
		return fallback
	}
	return at
}

// cursorVersion begins a cursor, so that a later form can tell an old one.
const cursorVersion = "1:"

// cursorAfter is the opaque cursor of the page that follows a tenant.
func cursorAfter(last domain.TenantID) string {
	return base64.RawURLEncoding.EncodeToString([]byte(cursorVersion + string(last)))
}

func (q query) cursor(name string) domain.TenantID {
	text := q.values.Get(name)
	if text == "" {
		return ""
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	last, versioned := strings.CutPrefix(string(raw), cursorVersion)
	after, bad := domain.ParseTenantID(last)
	if err != nil || !versioned || bad != nil {
		q.refuse(name, "this is no cursor of this API; begin without one")
		return ""
	}
	return after
}
