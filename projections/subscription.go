package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
)

const (
	// pending bounds what a projector has taken over and not applied: about a megabyte of bodies. When
	// it is full the subscription waits, and the entries stay in Redis.
	pending = 512
	// claimIdle is when an entry that a dead process took is given to a living one. It was committed
	// long before, so the comparison with Postgres has covered it already: this only tidies up.
	claimIdle = 30 * time.Second
	// blockTime bounds how long a subscription takes to notice that it shall end.
	blockTime = 100 * time.Millisecond
)

// subscription is a projector's membership in its consumer group. It begins again after every error: a
// flushed Redis has no group any more, and one that comes back may be empty.
type subscription struct {
	cfg   Config
	group string
	// entries are what was received. An entry is acknowledged when it is in here; see the package's
	// documentation for why that loses nothing.
	entries chan entry
	// renewed is signalled when the subscription has begun (again): whatever was missed must be looked for.
	renewed chan struct{}
	outage  outage
}

func newSubscription(cfg Config, group string) *subscription {
	return &subscription{
		cfg: cfg, group: group, entries: make(chan entry, pending), renewed: make(chan struct{}, 1),
		outage: outage{log: cfg.Logger, what: "subscription of " + group},
	}
}

// run receives until ctx is done.
func (s *subscription) run(ctx context.Context) {
	retry := pause{least: blockTime, most: 2 * time.Second}
	for ctx.Err() == nil {
		began, err := s.receive(ctx)
		if began {
			retry.reset()
		}
		s.outage.note(ctx, err)
		retry.wait(ctx, nil)
	}
}

// receive subscribes once. It ends with ctx, or with the first error of Redis.
func (s *subscription) receive(ctx context.Context) (began bool, err error) {
	client, err := s.cfg.client()
	if err != nil {
		return false, err
	}
	subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: client, Unmarshaller: verbatim{}, Consumer: s.cfg.Consumer, ConsumerGroup: s.group,
		OldestId: "0", BlockTime: blockTime, MaxIdleTime: claimIdle, NackResendSleep: blockTime,
		// The first read would otherwise block for ever and not see ctx.
		DisableIndefiniteInitialBlock: true,
		ShouldStopOnReadErrors:        func(error) bool { return true },
	}, s.cfg.watermillLog())
	if err != nil {
		return false, errors.Join(err, client.Close())
	}
	defer func() { err = errors.Join(err, subscriber.Close()) }() // closes the client too
	messages, err := subscriber.Subscribe(ctx, s.cfg.Stream)
	if err != nil {
		return false, fmt.Errorf("subscribe to %s: %w", s.cfg.Stream, err)
	}
	s.outage.note(ctx, nil)
	select {
	case s.renewed <- struct{}{}:
	default:
	}
	for m := range messages {
		if !s.take(ctx, m) {
			return true, nil
		}
	}
	if ctx.Err() != nil {
		return true, nil
	}
	return true, fmt.Errorf("the subscription to %s ended", s.cfg.Stream)
}

func (s *subscription) take(ctx context.Context, m *message.Message) bool {
	e, err := decodeEntry(m.Payload)
	if err != nil {
		s.cfg.Metrics.applied.WithLabelValues(s.group, "bad").Inc()
		s.cfg.Logger.WarnContext(ctx, "stream entry cannot be read",
			slog.String("projection", s.group), slog.String("uuid", fmt.Sprintf("%.80q", m.UUID)), slog.String("error", err.Error()))
		m.Ack()
		return true
	}
	select {
	case s.entries <- e:
		m.Ack()
		return true
	case <-ctx.Done():
		return false
	}
}

// verbatim passes on whatever Redis holds. Watermill ends a subscription for good when its unmarshaller
// fails, so this one cannot: what is missing is empty, and the payload is judged when it is read.
type verbatim struct{}

// Unmarshal implements redisstream.Unmarshaller.
func (verbatim) Unmarshal(values map[string]any) (*message.Message, error) {
	uuid, _ := values[redisstream.UUIDHeaderKey].(string)
	payload, _ := values["payload"].(string)
	return message.NewMessage(uuid, []byte(payload)), nil
}
