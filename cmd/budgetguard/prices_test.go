package main

import (
	"net/url"
	"testing"
)

func TestRegionalAddressesOfOpenAICostTheirSurcharge(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]int64{
		"https://api.openai.com/v1": 0, "https://eu.api.openai.com/v1": 10, "https://US.api.openai.com/v1": 10,
		"https://notapi.openai.com": 0, "http://127.0.0.1:4000/v1": 0,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := surcharge(u); got != want {
			t.Errorf("%s: %d, want %d", address, got, want)
		}
	}
}
