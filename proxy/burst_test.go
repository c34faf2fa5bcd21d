package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/internal/mockupstream"
	"github.com/budgetguard/budgetguard/internal/testenv"
)

// burstClient has a connection for everybody: the requests are to be at the gateway at once.
func burstClient(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 500}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// burst sends 500 requests at once, in turn to the gateways, and counts the answers by status.
func burst(t *testing.T, key string, gateways ...*gateway) (count func(status int) int, wait func()) {
	t.Helper()
	client := burstClient(t)
	var (
		mu       sync.Mutex
		statuses = map[int]int{}
		all      sync.WaitGroup
	)
	for i := range 500 {
		all.Go(func() {
			url := gateways[i%len(gateways)].url + chatPath
			r := request(t, http.MethodPost, url, strings.NewReader(chat(`"max_tokens":100,`)), "Authorization", "Bearer "+key)
			answer := sendBy(client, r)
			if answer.err != nil || answer.status == 402 && answer.header.Get("X-Should-Retry") != "false" {
				t.Errorf("got %d %v %v", answer.status, answer.header, answer.err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[answer.status]++
		})
	}
	count = func(status int) int {
		mu.Lock()
		defer mu.Unlock()
		return statuses[status]
	}
	return count, all.Wait
}

func testBurst(t *testing.T, p *provider, key string, gateways ...*gateway) {
	t.Helper()
	p.settings(t, func(s *mockupstream.Settings) { s.Hold = true })
	count, wait := burst(t, key, gateways...)
	eventually(t, "400 are refused while 100 are under way", func() bool { return count(402) == 400 && p.mock.Held() == 100 })
	p.settings(t, func(s *mockupstream.Settings) { s.Hold = false })
	wait()
	if count(200) != 100 || count(402) != 400 {
		t.Errorf("%d were answered and %d refused, want 100 and 400", count(200), count(402))
	}
	if n := len(of[domain.UsageSettled](gateways[0], "acme")); n != 100 {
		t.Errorf("%d settlements", n)
	}
}

// hundredHolds is a hundred times the hold of burst's request.
const hundredHolds = "0.0217"

func TestABudgetOfAHundredHoldsAdmitsAHundredOf500AtOnce(t *testing.T) {
	t.Parallel()
	g := start(t, setup{})
	testBurst(t, g.provider, g.tenant("acme", hundredHolds), g)
}

func TestTwoGatewaysOnOneDatabaseAdmitNoMore(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	s := setup{database: testenv.Database(t), redis: testenv.Redis(t)}
	a, b := startBehind(t, s, p), startBehind(t, s, p)
	testBurst(t, p, a.tenant("acme", hundredHolds), a, b)
}

func TestABudgetIsNeverOverspentByManySmallAndLargeRequests(t *testing.T) {
	t.Parallel()
	p := newProvider(t, nil)
	s := setup{database: testenv.Database(t), redis: testenv.Redis(t)}
	a, b := startBehind(t, s, p), startBehind(t, s, p)
	key := a.tenant("acme", "0.02")
	a.budget("acme", domain.Hourly, "0.015")
	client := burstClient(t)
	var all sync.WaitGroup
	for i := range 300 {
		all.Go(func() {
			url := []*gateway{a, b}[i%2].url + chatPath
			body := chat(fmt.Sprintf(`"max_tokens":%d,"stream":%t,`, 1+i%50*20, i%3 == 0))
			r := sendBy(client, request(t, http.MethodPost, url, strings.NewReader(body), "X-API-Key", key))
			if r.err != nil || r.status != 200 && r.status != 402 {
				t.Errorf("got %d %v", r.status, r.err)
			}
		})
	}
	all.Wait() // the audit says whether any window was overspent
}
