package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/budgetguard/budgetguard/domain"
)

const (
	// maxViolations bounds how much of a hostile body an answer talks about.
	maxViolations = 32
	// maxModels and maxModelName bound a key's list of models: it is part of the tenant's state.
	maxModels    = 64
	maxModelName = 128
	// maxTags and maxTag are what X-BudgetGuard-Tags may carry.
	maxTags = 16
	maxTag  = 64
	// maxReason bounds what somebody says of a change.
	maxReason = 500
)

// fields reads the members of a JSON object. A member that is read is taken out, so what is left at the
// end was never meant. Violations gather; the handler asks for them once. null is as good as absent.
type fields struct {
	pointer string // JSON Pointer of the object, "" for the whole body
	members map[string]any
	found   *[]violation
}

func newFields(members map[string]any) fields {
	return fields{members: members, found: &[]violation{}}
}

// refuse notes what is wrong with a member.
func (f fields) refuse(name, format string, args ...any) {
	f.add(violation{Pointer: "#" + f.pointer + "/" + escaped(name), Detail: fmt.Sprintf(format, args...)})
}

func (f fields) add(v violation) {
	if len(*f.found) < maxViolations {
		*f.found = append(*f.found, v)
	}
}

// want notes that a member is needed, unless what is wrong with it is noted already.
func (f fields) want(name, format string, args ...any) {
	at := "#" + f.pointer + "/" + escaped(name)
	if !slices.ContainsFunc(*f.found, func(v violation) bool { return v.Pointer == at }) {
		f.refuse(name, format, args...)
	}
}

// escaped is a member's name in a JSON Pointer (RFC 6901 §3), shortened where somebody sent a long one.
func escaped(name string) string {
	const longest = 80
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// problem is all that is wrong with the body, or nil. It is asked for after everything was taken.
func (f fields) problem() error {
	f.rest()
	if len(*f.found) == 0 {
		return nil
	}
	detail := "The body has fields that are not acceptable."
	if (*f.found)[0].Header != "" {
		detail = "The header " + (*f.found)[0].Header + " is missing or not acceptable."
	}
	return invalidRequest(detail, *f.found...)
}

// rest refuses the members that nobody took, and takes them.
func (f fields) rest() {
	for _, name := range slices.Sorted(maps.Keys(f.members)) {
		f.refuse(name, "unknown field")
	}
	clear(f.members)
}

// take removes a member. It tells whether there was one other than null.
func (f fields) take(name string) (any, bool) {
	v, ok := f.members[name]
	delete(f.members, name)
	return v, ok && v != nil
}

// has tells whether a member is there, null or not. It does not take it.
func (f fields) has(name string) bool {
	_, ok := f.members[name]
	return ok
}

func (f fields) text(name string, most int) *string {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	text, isText := v.(string)
	switch {
	case !isText:
		f.refuse(name, "want a string")
	case len(text) > most:
		f.refuse(name, "want at most %d bytes", most)
	case strings.ContainsFunc(text, unicode.IsControl):
		f.refuse(name, "want no control characters") // they forge lines in logs and terminals
	default:
		return &text
	}
	return nil
}

// textOrNone is a text of at most maxReason bytes, empty where there is none.
func (f fields) textOrNone(name string) string {
	if text := f.text(name, maxReason); text != nil {
		return *text
	}
	return ""
}

func (f fields) whole(name string) *int64 {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	number, isNumber := v.(json.Number)
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if !isNumber || err != nil {
		f.refuse(name, "want a whole number")
		return nil
	}
	return &n
}

// amount reads money from a string or a number, exactly.
func (f fields) amount(name string) *domain.Amount {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	var amount domain.Amount
	var err error
	switch v := v.(type) {
	case string:
		amount, err = domain.ParseAmount(v)
	case json.Number:
		amount, err = domain.ParseAmountNumber(v.String())
	default:
		f.refuse(name, "want dollars as a decimal string or a number")
		return nil
	}
	if err != nil {
		f.refuse(name, "%s", err)
		return nil
	}
	return &amount
}

func (f fields) instant(name string) *time.Time {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	text, _ := v.(string)
	at, err := parseInstant(text)
	if err != nil {
		f.refuse(name, "%s", err)
		return nil
	}
	return &at
}

func (f fields) list(name string) ([]any, bool) {
	v, ok := f.take(name)
	if !ok {
		return nil, false
	}
	list, isList := v.([]any)
	if !isList {
		f.refuse(name, "want an array")
	}
	return list, isList
}

// objects gives the elements of an array of objects.
func (f fields) objects(name string) ([]fields, bool) {
	list, ok := f.list(name)
	var objects []fields
	inside := fields{pointer: f.pointer + "/" + name, found: f.found}
	for i, element := range list {
		if object, ok := inside.child(strconv.Itoa(i), element); ok {
			objects = append(objects, object)
		}
	}
	return objects, ok
}

func (f fields) object(name string) (fields, bool) {
	v, ok := f.take(name)
	if !ok {
		return fields{}, false
	}
	return f.child(name, v)
}

func (f fields) child(name string, v any) (fields, bool) {
	members, isObject := v.(map[string]any)
	if !isObject {
		f.refuse(name, "want an object")
		return fields{}, false
	}
	return fields{pointer: f.pointer + "/" + name, members: members, found: f.found}, true
}

func (f fields) models(name string) []string {
	list, ok := f.list(name)
	if !ok {
		return nil
	}
	models := make([]string, 0, len(list))
	for _, element := range list {
		model, _ := element.(string)
		if model == "" || len(model) > maxModelName || strings.ContainsFunc(model, unicode.IsControl) {
			f.refuse(name, "want names of models, each of 1 to %d bytes", maxModelName)
			return nil
		}
		models = append(models, model)
	}
	if len(models) == 0 || len(models) > maxModels {
		f.refuse(name, "want 1 to %d models; leave it out to allow all", maxModels)
		return nil
	}
	return models
}

func (f fields) tags(name string) map[string]string {
	v, ok := f.take(name)
	if !ok {
		return nil
	}
	members, isObject := v.(map[string]any)
	if !isObject || len(members) > maxTags {
		f.refuse(name, "want an object of at most %d tags", maxTags)
		return nil
	}
	tags := make(map[string]string, len(members))
	for tag, value := range members {
		text, isText := value.(string)
		if !isText || tag == "" || len(tag)+len("=")+len(text) > maxTag || !taggable(tag) || !taggable(text) {
			f.refuse(name, "want tags such as {\"team\":\"search\"}: together at most %d bytes of visible ASCII without ',' and '='", maxTag)
			return nil
		}
		tags[tag] = text
	}
	return tags
}

// names reads the names of tags.
func (f fields) names(name string) []string {
	list, ok := f.list(name)
	if !ok {
		return nil
	}
	names := make([]string, 0, len(list))
	for _, element := range list {
		tag, _ := element.(string)
		if tag == "" || len(tag)+len("=") > maxTag || !taggable(tag) || slices.Contains(names, tag) || len(names) == maxTags {
			f.refuse(name, "want at most %d different names of tags, each of 1 to %d bytes of visible ASCII without ',' and '='", maxTags, maxTag-1)
			return nil
		}
		names = append(names, tag)
	}
	return names
}

// taggable tells whether text can stand in X-BudgetGuard-Tags: team=search,env=prod.
func taggable(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' || text[i] == ',' || text[i] == '=' {
			return false
		}
	}
	return true
}

// parseInstant reads RFC 3339. The result is UTC in whole microseconds, as Postgres keeps it.
func parseInstant(s string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil || at.Year() < 1970 || at.Year() > 9999 {
		return time.Time{}, fmt.Errorf("%.40q is not an RFC 3339 time such as 2026-11-01T00:00:00Z", s)
	}
	return at.UTC().Truncate(time.Microsecond), nil
}
