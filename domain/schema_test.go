package domain_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	. "github.com/budgetguard/budgetguard/domain"
)

// field is what the catalogue says about one JSON field of an event.
type field struct {
	name     string
	typ      reflect.Type
	optional bool
	comment  string
}

// meaning says what a JSON field holds where the source has no comment of its own.
func meaning(name string) string {
	return map[string]string{
		"account":              "Balance of one budget in one window, named by the version of the window.opened event that made it.",
		"actor":                "Who caused it: admin, environment, gateway:ID.",
		"addedUsd":             "What the hold grew by.",
		"adopted":              "Reservations made earlier that count here too.",
		"agedUsd":              "Spend that left the window.",
		"alertsAt":             "Shares of the limit to be told at, such as 0.8.",
		"answeredModel":        "Model the provider says it used.",
		"answeredTier":         "Service tier the provider says it billed.",
		"apiKeyId":             "Id of the tenant's API key; no secret.",
		"basis":                "What the figures rest on.",
		"budgetId":             "Budget of the tenant.",
		"chargedUsd":           "What the reservation is charged.",
		"deltaUsd":             "Difference that the correction makes, with a sign.",
		"estimate":             "Upper bounds the hold was computed from.",
		"expiresAt":            "When it ends by itself.",
		"fingerprint":          "Hash of the request, to tell a retry from another request with the same idempotency key.",
		"gateway":              "Process that asked.",
		"idempotencyKey":       "Key the client sent.",
		"keyHash":              "Keyed hash of the secret.",
		"oldKeyHash":           "Keyed hash of the secret before.",
		"oldUntil":             "End of the old secret's grace.",
		"limitUsd":             "Limit of the budget.",
		"oldLimitUsd":          "Limit before.",
		"model":                "Model the client asked for.",
		"models":               "Models the key may use; absent: all.",
		"overrunUsd":           "What was charged above the reservation.",
		"period":               "Length of the budget's windows.",
		"policyRevision":       "Policy that allowed the request.",
		"postings":             "Resulting balance of each account touched.",
		"prefix":               "First characters of the key, to recognise it by.",
		"presumedUsd":          "Part of spent that no provider has confirmed.",
		"priceVersion":         "Catalogue the request was priced by.",
		"provider":             "Provider the request goes to.",
		"rateLimitPerMin":      "Requests a minute; 0: no limit; null or absent: the installation's.",
		"reason":               "Why, in words.",
		"requestId":            "Value of the X-Request-Id header.",
		"reservationId":        "UUID of the reservation.",
		"reservedAt":           "When the reservation was made: the windows that hold it are the ones it counts in.",
		"reservedUsd":          "What is held.",
		"route":                "Path of the request.",
		"scope":                "What the budget counts; empty: the whole tenant.",
		"serviceTier":          "Service tier the hold was priced at.",
		"source":               "Who set the limit last; admin wins over environment, which wins over demo.",
		"spentUsd":             "What was charged.",
		"stream":               "Whether the client asked for a stream.",
		"tags":                 "Tags of the request, or pinned by the key.",
		"threshold":            "Share of the limit, such as 0.8.",
		"timezone":             "IANA time zone.",
		"usage":                "Tokens the charge was computed from.",
		"usedUsd":              "What was spent.",
		"wasChargedUsd":        "What the reservation had been charged before.",
		"bucket":               "Number of the bucket.",
		"byUsd":                "What the limit is raised by.",
		"until":                "When the raise ends.",
		"windowStart":          "First instant of the window.",
		"windowEnd":            "First instant after the window.",
		"promptTokens":         "Input tokens.",
		"completionTokens":     "Output tokens.",
		"cachedTokens":         "Input tokens read from a cache, within promptTokens.",
		"cacheWriteTokens":     "Input tokens written to a cache, within promptTokens.",
		"cacheWriteLongTokens": "Input tokens written to a longer-lived cache at its own price (Anthropic: one hour), within cacheWriteTokens.",
		"audioPromptTokens":    "Audio tokens within promptTokens.",
		"reasoningTokens":      "Reasoning tokens within completionTokens.",
	}[name]
}

// comments are what the source says about types and their fields, by "Type" and "Type.Field".
func comments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if types, ok := decl.(*ast.GenDecl); ok && types.Tok == token.TYPE {
				for _, spec := range types.Specs {
					collect(found, types, spec.(*ast.TypeSpec))
				}
			}
		}
	}
	return found
}

func collect(found map[string]string, decl *ast.GenDecl, spec *ast.TypeSpec) {
	found[spec.Name.Name] = oneLine(decl.Doc.Text() + spec.Doc.Text())
	body, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	for _, f := range body.Fields.List {
		for _, name := range f.Names {
			found[spec.Name.Name+"."+name.Name] = oneLine(f.Doc.Text() + f.Comment.Text())
		}
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// fieldsOf lists the JSON fields of a struct in the order they are written, embedded ones in place.
func fieldsOf(t reflect.Type, said map[string]string) []field {
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fields = append(fields, fieldsOf(f.Type, said)...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		comment := meaning(name)
		if own := said[t.Name()+"."+f.Name]; own != "" {
			comment = own
		}
		fields = append(fields, field{name: name, typ: f.Type, optional: options != "", comment: comment})
	}
	return fields
}

func baseType(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// object is a JSON object that keeps the order of its members.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, m := range o {
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.WriteString(map[bool]string{true: "{", false: ","}[i == 0])
		b.WriteString(`"` + m.name + `":`)
		b.Write(value)
	}
	if len(o) == 0 {
		b.WriteString("{")
	}
	b.WriteString("}")
	return b.Bytes(), nil
}

// schemaOf is the JSON Schema of an event's stored body.
func schemaOf(e Event, said map[string]string) object {
	t := reflect.TypeOf(e)
	defs := object{}
	body := structSchema(t, said, &defs)
	schema := object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", string(TypeOf(e)) + ".v1.schema.json"},
		{"title", "budgetguard." + string(TypeOf(e)) + ".v1"},
		{"description", said[t.Name()]},
	}
	schema = append(schema, body...)
	if len(defs) > 0 {
		schema = append(schema, member{"$defs", defs})
	}
	return schema
}

func structSchema(t reflect.Type, said map[string]string, defs *object) object {
	properties, required := object{}, []string{}
	for _, f := range fieldsOf(t, said) {
		value := valueSchema(f, said, defs)
		if f.comment != "" {
			value = append(value, member{"description", f.comment})
		}
		properties = append(properties, member{f.name, value})
		if !f.optional {
			required = append(required, f.name)
		}
	}
	return object{{"type", "object"}, {"properties", properties}, {"required", required}, {"additionalProperties", true}}
}

// choices are the values of the string types that are closed sets.
func choices(t reflect.Type) []string {
	switch t {
	case reflect.TypeFor[Basis]():
		return []string{string(BasisProvider), string(BasisCounted), string(BasisPresumed)}
	case reflect.TypeFor[Source]():
		return []string{string(SourceAdmin), string(SourceEnvironment), string(SourceDemo)}
	case reflect.TypeFor[Period]():
		return []string{
			string(Hourly), string(Daily), string(Weekly), string(Monthly), string(Quarterly), string(Yearly), string(Total), string(Custom), string(Rolling),
		}
	}
	return nil
}

func valueSchema(f field, said map[string]string, defs *object) object {
	switch f.typ {
	case reflect.TypeFor[Amount]():
		return object{{"type", "string"}, {"pattern", `^-?[0-9]+(\.[0-9]{1,9})?$`}}
	case reflect.TypeFor[time.Time](), reflect.TypeFor[*time.Time]():
		return object{{"type", "string"}, {"format", "date-time"}}
	case reflect.TypeFor[Threshold]():
		return object{{"type", "number"}}
	case reflect.TypeFor[Zone]():
		return object{{"type", "string"}}
	case reflect.TypeFor[Length]():
		return object{{"type", "string"}, {"pattern", "^[0-9]+[mhd]$"}}
	case reflect.TypeFor[map[string]string]():
		return object{{"type", "object"}, {"additionalProperties", object{{"type", "string"}}}}
	case reflect.TypeFor[*int64]():
		if f.optional {
			return object{{"type", "integer"}}
		}
		return object{{"type", []string{"integer", "null"}}}
	}
	if values := choices(f.typ); values != nil {
		return object{{"type", "string"}, {"enum", values}}
	}
	switch f.typ.Kind() { //nolint:exhaustive // the kinds that events are made of
	case reflect.String:
		return object{{"type", "string"}}
	case reflect.Bool:
		return object{{"type", "boolean"}}
	case reflect.Int64:
		return object{{"type", "integer"}}
	case reflect.Slice:
		return object{{"type", "array"}, {"items", valueSchema(field{typ: f.typ.Elem()}, said, defs)}}
	case reflect.Struct:
		define(f.typ, said, defs)
		return object{{"$ref", "#/$defs/" + f.typ.Name()}}
	}
	panic("the catalogue cannot describe a " + f.typ.String())
}

func define(t reflect.Type, said map[string]string, defs *object) {
	for _, known := range *defs {
		if known.name == t.Name() {
			return
		}
	}
	*defs = append(*defs, member{t.Name(), structSchema(t, said, defs)})
}
