package request_test

import (
	"testing"

	"github.com/budgetguard/budgetguard/proxy/request"
)

func TestAOneHourCacheWriteIsSeenAtAnyDepth(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		withField(`"cache_control":{"type":"ephemeral","ttl":"1h"}`),
		withField(`"tools":[{"type":"function","Cache_Control":{"ttl":"1h"}}]`),
		withContent(`[{"type":"text","text":"a","cache_\u0063ontrol":{"ttl":"1\u0068"}}]`),
	} {
		if !parse(t, chat, body).LongCacheWrite {
			t.Errorf("%s: the one-hour life was missed", body)
		}
	}
	if parse(t, chat, withField(`"cache_control":{"ttl":"5m"}`)).LongCacheWrite {
		t.Error("five minutes are not the long life")
	}
	wantCode(t, chat, withField(`"cache_control":{"ttl":"2h"}`), request.NotEstimable)
}

func TestAnEmptyPromptAndBestOfZeroAreLegal(t *testing.T) {
	t.Parallel()
	body := `{"model":"m","prompt":[],"best_of":0,"echo":true,"max_tokens":0}`
	r := parse(t, request.RouteCompletions, body)
	if r.Prompts != 1 || r.Framing.Prompts != 1 || r.Choices() != 1 || !r.EchoOnly() {
		t.Errorf("read as %+v", r)
	}
}
