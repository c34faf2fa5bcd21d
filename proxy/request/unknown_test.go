package request_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

func TestAnUnknownObjectIsRefusedAndAnUnknownScalarIsNot(t *testing.T) {
	t.Parallel()
	for _, field := range []string{
		`"new":{}`, `"new":[{}]`, `"new":[[{"a":1}]]`, `"provider":{"order":["a"]}`,
		`"extra_body":{"google":{"cached_content":"c"}}`, `"fallbacks":["a"]`, `"web_search":true`,
	} {
		wantCode(t, chat, withField(field), request.NotEstimable)
	}
	parse(t, chat, withField(`"new":1,"other":["a"],"thinking":{"type":"enabled"},"reasoning":{}`))
}
