package mockupstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// A journal is a file of billed requests, a line each: time in Unix nanoseconds, nano-dollars, key id, model id. A
// provider does not forget its bill because somebody's demo was started again.

// recall enters what an earlier process journaled. A last line without its end was cut by a crash and is left out.
func (s *Server) recall(past io.Reader) error {
	lines := bufio.NewReader(past)
	for n := 1; ; n++ {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read journal: %w", err)
		}
		var at, nano int64
		var key, id string
		if _, err := fmt.Sscanf(line, "%d %d %s %s\n", &at, &nano, &key, &id); err != nil {
			return fmt.Errorf("journal line %d: %w", n, err)
		}
		m, known := s.catalogue.byName[id]
		if !known {
			return fmt.Errorf("journal line %d: the catalogue has no model %q", n, id)
		}
		s.books.enter(time.Unix(0, at), key, m.index, nano)
	}
}

// enter bills a request, and journals it first where there is a journal: one line is one write, so lines of requests
// at the same time do not mix.
func (s *Server) enter(at time.Time, key string, m *model, nano int64) {
	if s.journal != nil {
		if _, err := fmt.Fprintf(s.journal, "%d %d %s %s\n", at.UnixNano(), nano, key, m.id); err != nil {
			s.log.Error("the bill cannot be journaled", slog.String("error", err.Error()))
		}
	}
	s.books.enter(at, key, m.index, nano)
}
