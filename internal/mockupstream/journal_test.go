package mockupstream

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestABillIsTheSameAfterItsJournalWasReadAgain(t *testing.T) {
	t.Parallel()
	prices, err := os.ReadFile("../../domain/pricing/prices.json")
	if err != nil {
		t.Fatal(err)
	}
	var journal bytes.Buffer
	before, err := New(Config{Prices: prices, Now: time.Now, Journal: &journal})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions",
			strings.NewReader(`{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}`))
		r.Header.Set("Authorization", "Bearer k")
		before.Handler().ServeHTTP(httptest.NewRecorder(), r)
	}
	cut := strings.NewReader(journal.String() + "17953187")
	after, err := New(Config{Prices: prices, Now: time.Now, Past: cut})
	if err != nil {
		t.Fatal(err)
	}
	want, got := before.Bill(time.Time{}, time.Time{}), after.Bill(time.Time{}, time.Time{})
	if !reflect.DeepEqual(got, want) || got.Requests != 3 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := New(Config{Prices: prices, Now: time.Now, Past: strings.NewReader("nonsense\n")}); err == nil {
		t.Error("a journal of nonsense was accepted")
	}
}
