package domain_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	. "github.com/budgetguard/budgetguard/domain"
)

func jsonHas(t *testing.T, body []byte, name string) bool {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatal(err)
	}
	_, ok := fields[name]
	return ok
}

func TestATenantIDIsASlug(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "0", "acme", "acme.de", "a_b-c", "x" + strings.Repeat("-", 62)} {
		if got, err := ParseTenantID(text); err != nil || string(got) != text {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "_system", "-a", ".a", "A", "a b", "ä", "a/b", "a\x00", strings.Repeat("a", 64)} {
		if got, err := ParseTenantID(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %q, %v; want ErrInvalid", text, got, err)
		}
	}
}

func TestSlugMakesATenantIDOfANameOrNothing(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"ACME": "acme", "ACME Söhne & Co.": "acme-s-hne-co", "  a  b  ": "a-b", "___": "", "": "", "日本": "", "_system": "system",
		strings.Repeat("ab ", 40): strings.TrimRight(strings.Repeat("ab-", 21), "-"),
	} {
		if got := Slug(name); got != want {
			t.Errorf("%q: got %q; want %q", name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		slug := Slug(rapid.String().Draw(t, "name"))
		if slug == "" {
			return
		}
		if _, err := ParseTenantID(slug); err != nil || Slug(slug) != strings.TrimRight(strings.NewReplacer(".", "-", "_", "-").Replace(slug), "-") {
			t.Fatalf("slug %q: %v", slug, err)
		}
	})
}

func TestAZoneIsAnIANAName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "UTC", "UTC": "UTC", "Europe/Berlin": "Europe/Berlin"} {
		zone, err := ParseZone(text)
		if err != nil || zone.String() != want {
			t.Errorf("%q: got %s, %v; want %s", text, zone, err, want)
		}
		encoded, err := json.Marshal(zone)
		var back Zone
		if err != nil || json.Unmarshal(encoded, &back) != nil || back.String() != want || back.Location().String() != want {
			t.Errorf("%s encodes to %s, and that is %s", zone, encoded, back)
		}
	}
	for _, text := range []string{"Local", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "CET CEST"} {
		if _, err := ParseZone(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: got %v; want ErrInvalid", text, err)
		}
	}
	if utc, err := ParseZone("UTC"); err != nil || utc != (Zone{}) || utc.Location() != time.UTC {
		t.Error("UTC by name is not the zero zone: a decoded event would differ from the one encoded")
	}
}

func TestAScopeIsNamedByWhatItNarrows(t *testing.T) {
	t.Parallel()
	for scope, want := range map[Scope]string{{}: "tenant", {APIKey: "k"}: "apiKey:k", {Model: "m"}: "model:m", {Tag: "a=b"}: "tag:a=b"} {
		if got := scope.String(); got != want {
			t.Errorf("%+v: got %s; want %s", scope, got, want)
		}
	}
}
