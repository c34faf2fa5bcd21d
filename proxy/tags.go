package proxy

import (
	"fmt"
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	tagsHeader = "X-BudgetGuard-Tags"
	maxTags    = 16
	maxTag     = 64
)

// tagsOf reads "team=search,env=prod". What the key pins wins over what the request says, and what it requires
// must be there.
func tagsOf(headers []string, pinned map[string]string, required []string) (map[string]string, error) {
	tags := map[string]string{}
	for part := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, "=")
		if name = strings.TrimSpace(name); !ok || name == "" || len(part) > maxTag || !printable(part) {
			return nil, badRequest("invalid_request", "", fmt.Sprintf("%s: want name=value pairs of printable text, at most %d bytes each", tagsHeader, maxTag))
		}
		if _, twice := tags[name]; twice {
			return nil, badRequest("invalid_request", "", fmt.Sprintf("%s: a name is given twice", tagsHeader))
		}
		tags[name] = strings.TrimSpace(value)
	}
	maps.Copy(tags, pinned)
	if len(tags) > maxTags {
		return nil, badRequest("invalid_request", "", fmt.Sprintf("%s: at most %d tags", tagsHeader, maxTags))
	}
	var missing []string
	for _, name := range required {
		if _, there := tags[name]; !there {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, badRequest("invalid_request", "", fmt.Sprintf("the key requires the tags %s: send %s: %s=…", strings.Join(missing, ", "),
			tagsHeader, strings.Join(missing, "=…,")))
	}
	if len(tags) == 0 {
		return nil, nil
	}
	return tags, nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}
