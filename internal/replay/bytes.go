package main

import (
	"encoding/json"
	"slices"
	"strings"
)

// asksUsage reports whether a request asks for the usage of its stream itself, and whether it
// streams.
func asksUsage(request string) (asks, streams bool) {
	var r struct {
		Stream  bool `json:"stream"`
		Options struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if json.Unmarshal([]byte(request), &r) != nil {
		return false, false
	}
	return r.Options.Usage, r.Stream
}

// onlyAsksUsage reports whether sent is the request with stream_options.include_usage made true,
// and with every other byte as it was.
func onlyAsksUsage(sent, request string) bool {
	const member = `"include_usage":true`
	for _, edit := range [...]struct{ with, was string }{
		{`"stream_options":{` + member + `},`, ""},
		{`{` + member + `}`, "null"},
		{member + ",", ""},
		{member, ""},
		{"true", "false"},
		{"true", "null"},
	} {
		for at := 0; ; at++ {
			next := strings.Index(sent[at:], edit.with)
			if next < 0 {
				break
			}
			at += next
			if sent[:at]+edit.was+sent[at+len(edit.with):] != request {
				continue
			}
			// Of two bodies that differ in one place, only the one asks.
			before, streams := asksUsage(request)
			after, _ := asksUsage(sent)
			return streams && !before && after
		}
	}
	return false
}

// onlyLacksUsage reports whether got is the recorded stream without what only the gateway asked
// for: events with nothing but the usage, and "usage":null in others.
func onlyLacksUsage(got, recorded string) bool {
	for _, event := range events(recorded) {
		rest, found := strings.CutPrefix(got, event)
		for _, cut := range withoutNull(event) {
			if !found {
				rest, found = strings.CutPrefix(got, cut)
			}
		}
		if found {
			got = rest
		} else if !onlyUsage(event) {
			return false
		}
	}
	return got == ""
}

// events cuts a stream behind the blank lines that end its events.
func events(stream string) []string {
	var all []string
	var event strings.Builder
	for line := range strings.Lines(stream) {
		event.WriteString(line)
		if strings.Trim(line, "\r\n") == "" {
			all = append(all, event.String())
			event.Reset()
		}
	}
	if event.Len() > 0 {
		all = append(all, event.String())
	}
	return all
}

// onlyUsage reports whether an event has a usage and neither a choice nor an error.
func onlyUsage(event string) bool {
	var chunk map[string]json.RawMessage
	data, is := strings.CutPrefix(strings.TrimSpace(event), "data:")
	if !is || json.Unmarshal([]byte(data), &chunk) != nil {
		return false
	}
	var choices []json.RawMessage
	if raw, given := chunk["choices"]; given && json.Unmarshal(raw, &choices) != nil {
		return false
	}
	_, failed := chunk["error"]
	return len(choices) == 0 && !failed && strings.HasPrefix(string(chunk["usage"]), "{")
}

// withoutNull is an event without the member "usage":null of its chunk, in both ways to cut the
// comma.
func withoutNull(event string) []string {
	start := strings.IndexByte(event, '{')
	if start < 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(event[start:]))
	if _, err := d.Token(); err != nil {
		return nil
	}

	for d.More() {
		before := start + int(d.InputOffset()) // behind the brace or the last value
		name, err := d.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil
		}
		if name != "usage" || string(value) != "null" {
			continue
		}
		end := start + int(d.InputOffset())
		cuts := []string{event[:before] + event[end:]}
		after := strings.TrimLeft(event[end:], " ")
		if follow, comma := strings.CutPrefix(after, ","); comma {
			key := before + strings.IndexByte(event[before:], '"')
			cuts = append(cuts, event[:key]+follow, event[:key]+strings.TrimLeft(follow, " "))
		}
		return slices.Compact(cuts)
	}
	return nil
}
