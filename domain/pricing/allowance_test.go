package pricing_test

import (
	"testing"

	"pgregory.net/rapid"

	. "github.com/budgetguard/budgetguard/domain"
	. "github.com/budgetguard/budgetguard/domain/pricing"
)

func TestAnOverrunRaisesWhatFellShort(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule string
		over Overrun
		want Allowance
	}{
		{
			"a preamble comes once, however long the prompt",
			Overrun{PromptBound: 60, PromptBilled: 403, Cap: 40, Answers: 1, AnswersBilled: 40},
			Allowance{Prompt: 343},
		},
		{
			"what is a few percent of a long prompt grows with it",
			Overrun{PromptBound: 59_504, PromptBilled: 64_273, Cap: 10, Answers: 1, AnswersBilled: 10},
			Allowance{Prompt: 4_769, PromptPermille: 81},
		},
		{
			"an answer of a hundred times its cap had none",
			Overrun{PromptBound: 10, PromptBilled: 10, Cap: 5, Answers: 1, AnswersBilled: 500},
			Allowance{Answer: 495, Uncapped: true},
		},
		{
			"an answer a little above its cap is counted otherwise",
			Overrun{PromptBound: 10, PromptBilled: 10, Cap: 100, Answers: 2, AnswersBilled: 205},
			Allowance{Answer: 3},
		},
		{
			"tokens within their bounds teach nothing",
			Overrun{PromptBound: 10, PromptBilled: 10, Cap: 100, Answers: 2, AnswersBilled: 200},
			Allowance{},
		},
		{
			"an absurd report does not make a model unusable",
			Overrun{PromptBound: 10, PromptBilled: 1 << 40, Cap: 5, Answers: 1},
			Allowance{Prompt: 10_000_000},
		},
	} {
		if got := (Allowance{}).After(c.over); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.rule, got, c.want)
		}
	}
}

func TestTheSameCallAgainIsHeldAtWhatItWasBilled(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.Int64Range(1, 2_000_000)
		before := Allowance{
			Prompt:         rapid.Int64Range(0, 1000).Draw(t, "prompt"),
			PromptPermille: rapid.Int64Range(0, 500).Draw(t, "permille"),
			Answer:         rapid.Int64Range(0, 1000).Draw(t, "answer"),
		}
		o := Overrun{
			PromptBound: count.Draw(t, "bound"), PromptBilled: count.Draw(t, "billed"),
			Cap: count.Draw(t, "cap"), Answers: rapid.Int64Range(1, 128).Draw(t, "answers"),
			AnswersBilled: count.Draw(t, "answered"),
		}
		after := before.After(o)

		if after.OnPrompt(o.PromptBound) < o.PromptBilled {
			t.Fatalf("%+v bounds %d, billed %d", after, after.OnPrompt(o.PromptBound), o.PromptBilled)
		}
		if (o.Cap+after.Answer)*o.Answers < o.AnswersBilled {
			t.Fatalf("%+v allows %d, billed %d", after, (o.Cap+after.Answer)*o.Answers, o.AnswersBilled)
		}
		if after.Or(before) != after {
			t.Fatalf("%+v is below %+v", after, before)
		}
	})
}

func TestAHoldIsRaisedToWhatWasCharged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		held := Amount(rapid.Int64Range(1, int64(MaxAmount)).Draw(t, "held"))
		charged := Amount(rapid.Int64Range(0, int64(MaxAmount)).Draw(t, "charged"))
		a := Allowance{}.AfterCost(held, charged)
		want := charged
		if held < MaxAmount/101 {
			want = min(charged, 101*held)
		}
		if got := a.OnCost(held); got < want || got > MaxAmount {
			t.Fatalf("%+v holds %s for %s; it was charged %s", a, got, held, charged)
		}
	})
}
