package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// wires are the proxies that every connection goes through. It is safe for concurrent use.
type wires struct {
	api *toxiproxy.ApiServer

	mu      sync.Mutex
	proxies map[string]*toxiproxy.Proxy
}

func newWires() *wires {
	zerolog.SetGlobalLevel(zerolog.Disabled) // some toxics log past the logger that they are given
	return &wires{
		api:     toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()),
		proxies: map[string]*toxiproxy.Proxy{},
	}
}

// add stretches a wire to an address and returns the one to use instead.
func (w *wires) add(name, target string) (string, error) {
	p := toxiproxy.NewProxy(w.api, name, "127.0.0.1:0", target)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("wire %s: %w", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proxies[name] = p
	return p.Listen, nil
}

func (w *wires) proxy(name string) *toxiproxy.Proxy {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.proxies[name]
}

// cut refuses new connections and ends the ones there are.
func (w *wires) cut(name string) { w.proxy(name).Stop() }

// toxic is one thing that a wire does to what it carries.
type toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"` // upstream: towards the server
	Attributes map[string]int `json:"attributes"`
}

// hurt puts a toxic on a wire.
func (w *wires) hurt(name string, t toxic) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if _, err := w.proxy(name).Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
		return fmt.Errorf("hurt %s by %s: %w", name, text, err)
	}
	return nil
}

// heal takes away all that hurts a wire.
func (w *wires) heal(ctx context.Context, name string) error {
	p := w.proxy(name)
	p.Toxics.ResetToxics(ctx)
	p.Lock()
	enabled := p.Enabled
	p.Unlock()
	if enabled {
		return nil
	}
	if err := p.Start(); err != nil {
		return fmt.Errorf("heal %s: %w", name, err)
	}
	return nil
}

// lead makes the wires to a server lead to another address: it was started again on another port.
func (w *wires) lead(suffix, target string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, p := range w.proxies {
		if !strings.HasSuffix(name, suffix) || p.Upstream == target {
			continue
		}
		if err := p.Update(&toxiproxy.Proxy{Listen: p.Listen, Upstream: target, Enabled: true}); err != nil {
			return fmt.Errorf("lead %s to %s: %w", name, target, err)
		}
	}
	return nil
}

func (w *wires) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.proxies {
		p.Stop()
	}
}
