package main

import (
	"strings"
	"testing"
)

func TestARequestMayOnlyBeAskedForItsUsage(t *testing.T) {
	t.Parallel()
	const member = `"include_usage":true`
	const float = `{"stream":true,"n":1.0}`
	const options = `{"stream":true,"stream_options":`
	for _, c := range []struct {
		sent, request string
		want          bool
	}{
		{`{"stream_options":{` + member + `},"stream":true,"n":1.0}`, float, true},
		{`{"stream":true,"stream_options":{` + member + `}}`, options + `{}}`, true},
		{`{"stream":true,"stream_options":{` + member + `}}`, options + `null}`, true},
		{`{"stream":true,"stream_options":{` + member + `,"x":1}}`, options + `{"x":1}}`, true},
		{options + `{"include_usage": true}}`, options + `{"include_usage": false}}`, true},

		{`{"stream_options":{` + member + `},"stream":true,"n":1}`, float, false},
		{`{"stream_options":{` + member + `},"stream":false}`, `{"stream":false}`, false},
		{`{"stream":true,"store":true}`, `{"stream":true,"store":false}`, false},
		{`{"stream":true}`, options + `{` + member + `}}`, false},
	} {
		if got := onlyAsksUsage(c.sent, c.request); got != c.want {
			t.Errorf("%s for %s: %t", c.sent, c.request, got)
		}
	}
}

func TestAStreamMayOnlyLackTheUsageThatTheGatewayAskedFor(t *testing.T) {
	t.Parallel()
	const end = "\n\n"
	const text = `data: {"choices":[{"delta":{"content":", \"usage\":null"}}]}` + end
	const last = `data: {"choices":[],"usage":` + usage + `}` + end
	const done = "data: [DONE]" + end
	null := strings.Replace(text, `]}`+end, `],"usage":null}`+end, 1)
	for name, c := range map[string]struct {
		got, recorded string
		want          bool
	}{
		"as recorded":             {text + last + done, text + last + done, true},
		"without the last usage":  {text + done, text + last + done, true},
		"without null":            {text + done, null + last + done, true},
		"null at the front":       {`data: {"a":1}` + end, `data: {"usage":null, "a":1}` + end, true},
		"returns of the carriage": {"data: 1\r\n\r\n", "data: 1\r\n\r\n", true},

		"without the text":   {last + done, text + last + done, false},
		"without its end":    {text, text + done, false},
		"with something new": {text + done + done, text + done, false},
		"another text":       {strings.Replace(text, "delta", "dolta", 1), text, false},
		"an error is gone":   {done, `data: {"error":{},"choices":[],"usage":{}}` + end + done, false},
		"null inside":        {`data: {"a":{}}` + end, `data: {"a":{"usage":null}}` + end, false},
	} {
		if got := onlyLacksUsage(c.got, c.recorded); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestBytesThatWereChangedAreViolations(t *testing.T) {
	t.Parallel()
	p := &played{record: exchange("x", func(*record) {}), status: 201}
	p.sent, p.body = `{"model":"other"}`, "other"
	p.judgeBytes()
	if len(p.violations) != 3 {
		t.Errorf("violations %q", p.violations)
	}

	// Nothing may be taken out of the answer to a client that asked for its usage.
	p = &played{record: exchange("y", streams), status: 200}
	p.sent, p.body = p.record.Request, "data: [DONE]\n\n"
	p.record.Response = "data: {\"choices\":[],\"usage\":" + usage + "}\n\n" + p.body
	p.judgeBytes()
	if len(p.violations) != 1 {
		t.Errorf("violations %q", p.violations)
	}
}
