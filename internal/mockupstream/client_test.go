package mockupstream_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func client(p *provider) openai.Client {
	return openai.NewClient(option.WithBaseURL(p.url+"/v1"), option.WithAPIKey("sk-test"), option.WithMaxRetries(0))
}

func question(text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: "gpt-4o-mini", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}

func TestOfficialClientReadsAPlainAnswer(t *testing.T) {
	t.Parallel()
	answer, err := new(client(startProvider(t))).Chat.Completions.New(t.Context(), question("one two three"))
	if err != nil {
		t.Fatal(err)
	}
	if answer.Model != "gpt-4o-mini-2024-07-18" || answer.Choices[0].FinishReason != "stop" || answer.Choices[0].Message.Content == "" {
		t.Errorf("got %s", answer.RawJSON())
	}
	if u := answer.Usage; u.PromptTokens != 9 || u.CompletionTokens != 190 || u.TotalTokens != 199 || !u.JSON.PromptTokensDetails.Valid() {
		t.Errorf("usage: got %+v", u)
	}
}

func TestOfficialClientReadsAStream(t *testing.T) {
	t.Parallel()
	c := client(startProvider(t))
	params := question("one two three")
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		if !all.AddChunk(stream.Current()) {
			t.Fatalf("chunk does not fit: %s", stream.Current().RawJSON())
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	plain, err := c.Chat.Completions.New(t.Context(), question("one two three"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := all.Choices[0].Message.Content, plain.Choices[0].Message.Content; got != want {
		t.Errorf("streamed %q, plain %q", got, want)
	}
	if all.Usage.CompletionTokens != 190 || all.Choices[0].FinishReason != "stop" {
		t.Errorf("got usage %+v, finish_reason %s", all.Usage, all.Choices[0].FinishReason)
	}
}

func TestOfficialClientReadsToolCalls(t *testing.T) {
	t.Parallel()
	c := client(startProvider(t))
	params := question("will it rain")
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
		Name:       "weather",
		Parameters: openai.FunctionParameters{"type": "object", "required": []string{"city"}},
	})}
	plain, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	call := plain.Choices[0].Message.ToolCalls[0]
	var arguments map[string]string
	if err := json.Unmarshal([]byte(call.Function.Arguments), &arguments); err != nil || arguments["city"] == "" {
		t.Errorf("arguments %s: %v", call.Function.Arguments, err)
	}
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	var all openai.ChatCompletionAccumulator
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	streamed := all.Choices[0].Message.ToolCalls[0]
	if streamed.Function.Name != "weather" || streamed.Function.Arguments != call.Function.Arguments || streamed.ID == "" {
		t.Errorf("streamed %+v, plain %+v", streamed.Function, call.Function)
	}
	params.Messages = append(params.Messages, plain.Choices[0].Message.ToParam(), openai.ToolMessage("dry", call.ID))
	final, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if final.Choices[0].Message.Content == "" || final.Choices[0].FinishReason != "stop" {
		t.Errorf("after the tool's result: got %s", final.RawJSON())
	}
}

func TestOfficialClientReadsLegacyAnswersModelsAndErrors(t *testing.T) {
	t.Parallel()
	p := startProvider(t)
	c := client(p)
	prompt := openai.CompletionNewParamsPromptUnion{OfString: openai.String("hello")}
	legacy, err := c.Completions.New(t.Context(), openai.CompletionNewParams{Model: "gpt-3.5-turbo-instruct", Prompt: prompt})
	if err != nil || legacy.Choices[0].Text == "" || legacy.Usage.CompletionTokens != 16 {
		t.Errorf("legacy: %+v, %v", legacy, err)
	}
	stream := c.Completions.NewStreaming(t.Context(), openai.CompletionNewParams{Model: "gpt-3.5-turbo-instruct", Prompt: prompt})
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Text
	}
	if err := stream.Err(); err != nil || text != legacy.Choices[0].Text {
		t.Errorf("legacy stream: %q, %v", text, err)
	}
	models, err := c.Models.List(t.Context())
	if err != nil || len(models.Data) < 200 {
		t.Errorf("models: %v", err)
	}
	p.control(t, `{"errorRate":1,"errorStatus":429}`)
	_, err = c.Chat.Completions.New(t.Context(), question("hi"))
	var refused *openai.Error
	if !errors.As(err, &refused) || refused.StatusCode != http.StatusTooManyRequests || refused.Code != "rate_limit_exceeded" {
		t.Errorf("injected error: got %v", err)
	}
}
