package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/budgetguard/budgetguard/internal/mockupstream"
)

func TestAfterKillMinus9NothingIsForgottenAndNothingStaysHeld(t *testing.T) {
	t.Parallel()
	s := newSystem(t, "RESERVATION_TTL=5s")
	gateway, address := s.serve()
	key := s.tenant(address, "crash", "100")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.Hold = true }); err != nil {
		t.Fatal(err)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	var calls sync.WaitGroup
	for range 100 {
		calls.Go(func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/v1/chat/completions", strings.NewReader(chat))
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("X-API-Key", key)
			r.Header.Set("Content-Type", "application/json")
			if a, err := http.DefaultClient.Do(r); err == nil { // most end with the gateway
				_ = a.Body.Close()
			}
		})
	}
	eventually(t, "100 calls in flight", func() bool { return s.provider.Held() == 100 })
	gateway.kill()
	calls.Wait()
	hangUp()
	held := s.count(`select count(*) from hold`)
	s.serve()
	s.worker()
	eventually(t, "every hold expired", func() bool { return s.count(`select count(*) from hold`) == 0 })
	// Their life is 5 s. A busy machine may take a while to start a worker and to write it all; the bound
	// only has to be far from the minutes in which nobody would close them.
	late := s.count(`select count(*) from event where type = 'reservation.expired'
		and ts > (body::jsonb->>'reservedAt')::timestamptz + interval '35 seconds'`)
	if held != 100 || late != 0 {
		t.Errorf("%d held after the crash, want 100; %d closed more than 30 s after their time", held, late)
	}
	if charged, billed := s.settled("crash"), s.billed(); charged < billed {
		t.Errorf("charged %d, below the bill of %d", charged, billed)
	}
	s.verify(exitOK)
}

func TestStoppingFinishesOpenStreams(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	gateway, address := s.serve()
	key := s.tenant(address, "stop", "100")
	if err := s.provider.Change(func(x *mockupstream.Settings) { x.TokensPerSecond = 40 }); err != nil {
		t.Fatal(err)
	}
	var stream answer
	done := make(chan struct{})
	go func() {
		defer close(done)
		stream = ask(t.Context(), t, address, key, strings.Replace(chat, `"model"`, `"stream":true,"model"`, 1))
	}()
	eventually(t, "the stream runs", func() bool { return s.count(`select count(*) from hold`) == 1 && s.billed() > 0 })
	if code := gateway.stop(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	<-done
	if !strings.Contains(string(stream.body), "[DONE]") {
		t.Errorf("the stream was cut: %s", stream.body)
	}
	if s.settled("stop") != s.billed() {
		t.Errorf("settled %d, billed %d", s.settled("stop"), s.billed())
	}
	s.verify(exitOK)
}

func TestAFlippedByteIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, address := s.serve()
	key := s.tenant(address, "victim", "1")
	s.tenant(address, "bystander", "1")
	if a := ask(t.Context(), t, address, key, chat); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.quiet()
	s.verify(exitOK)
	for _, sql := range []string{
		`update event set body = body`, `delete from event`, `truncate event`, `truncate event_default`, `delete from event where version = 1`,
	} {
		if _, err := s.db.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s succeeded", sql)
		}
	}
	version := s.count(`select version from event where tenant_id = 'victim' and type = 'usage.reserved'`)
	if _, err := s.db.Exec(t.Context(), `set session_replication_role = replica;
		update event set body = replace(body, 'gpt-3.5', 'gpt-4.5') where tenant_id = 'victim' and type = 'usage.reserved';
		reset session_replication_role`); err != nil {
		t.Fatal(err)
	}
	printed := s.verify(exitUnverified)
	if !strings.Contains(printed, "victim") || !strings.Contains(printed, strconv.FormatInt(version, 10)) {
		t.Errorf("the violation is not named:\n%s", printed)
	}
	if strings.Contains(printed, "bystander") {
		t.Errorf("the bystander is named:\n%s", printed)
	}
}
