package sse

// StripNullUsage is an event without the member "usage":null at the top of its JSON, and every other byte
// as it was. Providers add it to each chunk of a stream once usage is asked for (OpenAI API reference,
// stream_options), and a client that did not ask does not expect it. The event comes back as it is unless
// it is one data line with one well-formed object that has exactly one such member. Nothing is written to raw.
func StripNullUsage(raw []byte) []byte {
	start, end, found := nullUsage(raw)
	if !found {
		return raw
	}
	cut := make([]byte, 0, len(raw)-(end-start))
	cut = append(cut, raw[:start]...)
	return append(cut, raw[end:]...)
}

// nullUsage finds the member and the comma that goes with it: the one in front, or behind the first member.
func nullUsage(raw []byte) (start, end int, found bool) {
	if len(raw) < len("data:{}") || string(raw[:len("data:")]) != "data:" {
		return 0, 0, false
	}
	l := &lexer{b: raw, i: len("data:")}
	if l.space() != '{' {
		return 0, 0, false
	}

	members, at, matches := 0, 0, 0
	last := l.i + 1 // behind the brace or the member before
	for ok := l.enter('{', '}'); ok; ok = l.more('}') {
		begin := l.i
		name := string(l.key())
		value := string(l.skip())
		if name == "usage" {
			matches++
		}
		if name == "usage" && value == "null" {
			start, end, at, found = last, l.i, members, true
			if members == 0 {
				start = begin
			}
		}
		// Of a first member, the comma behind it goes too, with the blanks up to the next.
		if found && at == 0 && members == 1 {
			end = begin
		}
		last = l.i
		members++
	}
	if l.space(); l.bad || l.i != len(raw) || matches != 1 {
		return 0, 0, false
	}
	return start, end, found
}
