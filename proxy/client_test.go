package proxy_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

// official is OpenAI's own client with nothing changed but the URL and the key.
func (g *gateway) official(key string, more ...option.RequestOption) openai.Client {
	return openai.NewClient(append([]option.RequestOption{option.WithBaseURL(g.url + "/v1"), option.WithAPIKey(key)}, more...)...)
}

func question() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: "gpt-4o-mini", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}, MaxTokens: openai.Int(20),
	}
}

func TestTheOfficialClientChats(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	client := g.official(g.tenant("acme", "1"))
	answer, err := client.Chat.Completions.New(t.Context(), question())
	check(t, err)
	if len(answer.Choices) != 1 || answer.Choices[0].Message.Content == "" || answer.Usage.CompletionTokens != 20 {
		t.Errorf("got %s", answer.RawJSON())
	}
	g.settled("acme")
}

func TestTheOfficialClientStreams(t *testing.T) {
	t.Parallel()
	for _, asked := range []bool{false, true} {
		g := start(t, setup{})
		client := g.official(g.tenant("acme", "1"))
		params := question()
		if asked {
			params.StreamOptions.IncludeUsage = openai.Bool(true)
		}
		stream := client.Chat.Completions.NewStreaming(t.Context(), params)
		var whole openai.ChatCompletionAccumulator
		chunks := 0
		for stream.Next() {
			if !whole.AddChunk(stream.Current()) {
				t.Error("a chunk does not fit")
			}
			chunks++
		}
		check(t, stream.Err())
		check(t, stream.Close())
		if chunks < 20 || whole.Choices[0].Message.Content == "" || (whole.Usage.CompletionTokens == 20) != asked {
			t.Errorf("usage asked %t: %d chunks, %+v", asked, chunks, whole.Usage)
		}
		g.settled("acme")
	}
}

func TestTheOfficialClientCallsTools(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	client := g.official(g.tenant("acme", "1"))
	params := question()
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name: "weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}, "required": []string{"city"}},
	})}
	answer, err := client.Chat.Completions.New(t.Context(), params)
	check(t, err)
	calls := answer.Choices[0].Message.ToolCalls
	if len(calls) != 1 || calls[0].Function.Name != "weather" {
		t.Fatalf("got %s", answer.RawJSON())
	}
	params.Messages = append(params.Messages, answer.Choices[0].Message.ToParam(), openai.ToolMessage("sunny", calls[0].ID))
	answer, err = client.Chat.Completions.New(t.Context(), params)
	check(t, err)
	if answer.Choices[0].Message.Content == "" {
		t.Errorf("got %s", answer.RawJSON())
	}
	if n := len(of[domain.UsageSettled](g, "acme")); n != 2 {
		t.Errorf("%d settlements", n)
	}
}

func TestTheOfficialClientCompletes(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	client := g.official(g.tenant("acme", "1"))
	params := openai.CompletionNewParams{Model: "gpt-3.5-turbo-instruct", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("hello")}}
	answer, err := client.Completions.New(t.Context(), params)
	check(t, err)
	if answer.Choices[0].Text == "" || answer.Usage.CompletionTokens == 0 {
		t.Errorf("got %s", answer.RawJSON())
	}
	stream := client.Completions.NewStreaming(t.Context(), params)
	text := ""
	for stream.Next() {
		for _, c := range stream.Current().Choices {
			text += c.Text
		}
	}
	check(t, stream.Err())
	check(t, stream.Close())
	if text != answer.Choices[0].Text {
		t.Errorf("streamed %q, whole %q", text, answer.Choices[0].Text)
	}
}

func TestTheOfficialClientUnderstandsA402AndDoesNotTryAgain(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	attempts := 0
	client := g.official(g.tenant("acme", "0.000000001"), option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		attempts++
		return next(r)
	}))
	_, err := client.Chat.Completions.New(t.Context(), question())
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != 402 || refused.Code != "budget_exceeded" || refused.Type != "insufficient_quota" || refused.Message == "" {
		t.Fatalf("got %v", err)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), question())
	for stream.Next() {
		t.Error("a chunk of a refused stream")
	}
	refused = nil
	if !errors.As(stream.Err(), &refused) || refused.StatusCode != 402 {
		t.Errorf("streamed: got %v", stream.Err())
	}
	if attempts != 2 {
		t.Errorf("%d requests for two calls", attempts)
	}
	g.nothingForwarded()
}

func TestTheOfficialClientUnderstandsEveryRefusal(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	client := g.official("bgk_nobodys", option.WithMaxRetries(0))
	_, err := client.Chat.Completions.New(t.Context(), question())
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != 401 || refused.Code != "invalid_api_key" || refused.Type != "authentication_error" {
		t.Errorf("got %v", err)
	}
	params := question()
	params.Model = "gpt-nobody"
	client = g.official(g.tenant("acme", "1"), option.WithMaxRetries(0))
	_, err = client.Chat.Completions.New(t.Context(), params)
	if !errors.As(err, &refused) || refused.StatusCode != 400 || refused.Code != "model_not_priced" || refused.Param != "model" {
		t.Errorf("got %v", err)
	}
	g.nothingForwarded()
}

func TestTheOfficialClientSeesAStreamThatBreaksOff(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: unbilled, upstream: cutAfter("text/event-stream", delta+`data: {"cho`)})
	client := g.official(g.tenant("acme", "1"))
	stream := client.Chat.Completions.NewStreaming(t.Context(), question())
	chunks := 0
	for stream.Next() {
		chunks++
	}
	if err := stream.Err(); err == nil || chunks != 1 || !containsAll(err.Error(), "broke off") {
		t.Errorf("after %d chunks: %v", chunks, err)
	}
	g.presumed("acme", "stream_cut")
}

func TestTheOfficialClientShowsWhyAStreamWasCut(t *testing.T) {
	t.Parallel()
	g := start(t, setup{books: atLeast})
	client := g.official(g.tenant("acme", "1"), option.WithMaxRetries(0))
	g.settings(t, func(s *mockupstream.Settings) { s.CutAfterChunks = 5 })
	stream := client.Chat.Completions.NewStreaming(t.Context(), question())
	chunks := 0
	for stream.Next() {
		chunks++
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "the provider broke off the stream") || chunks == 0 {
		t.Errorf("%d chunks, %v", chunks, err)
	}
	_ = stream.Close() // it is broken
	g.presumed("acme", "stream_cut")
}
