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
	// streamGroup is the consumer group of a worker, whose projectors share what it receives.
	streamGroup = "projections"
	// pending is how much a projector takes at once: about a megabyte of bodies. Twice as much may wait for
	// it, so that something can come in while it works.
	pending = 512
	// claimIdle is when an entry that a dead process took is given to a living one. It was committed
	// long before, so the comparison with Postgres has covered it already: this only tidies up.
	claimIdle = 30 * time.Second
	// blockTime bounds how long a subscription takes to notice that it shall end.
	blockTime = 100 * time.Millisecond
)

// inbox is what a subscription has handed to one projector.
type inbox struct {
	projection string
	// entries are what was received. An entry is acknowledged when it is in here or missed is signalled; see
	// the package's documentation for why that loses nothing.
	entries chan entry
	// full is signalled when there is enough to take.
	full chan struct{}
	// missed is signalled when something may not have come, which must be looked for: the subscription has
	// begun (again), or there was no room.
	missed chan struct{}
}

func newInbox(projection string) *inbox {
	return &inbox{
		projection: projection, entries: make(chan entry, 2*pending), full: make(chan struct{}, 1), missed: make(chan struct{}, 1),
	}
}

// put never waits: a projector that is slow or fails shall not hold up the other.
func (i *inbox) put(e entry) {
	select {
	case i.entries <- e:
		if len(i.entries) >= pending {
			signal(i.full)
		}
	default:
		signal(i.missed)
	}
}

// take waits a while for more to come after the first, and returns at most as much as can be done at once.
func (i *inbox) take(ctx context.Context, first entry) []entry {
	timer := time.NewTimer(linger)
	defer timer.Stop()
	if len(i.entries) < pending {
		select {
		case <-i.full:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	entries := append(make([]entry, 0, 1+len(i.entries)), first)
	for len(entries) < pending {
		select {
		case e := <-i.entries:
			entries = append(entries, e)
		default:
			return entries
		}
	}
	return entries
}

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// subscription is a membership in a consumer group, on behalf of one or more projectors. It begins again
// after every error: a flushed Redis has no group any more, and one that comes back may be empty.
type subscription struct {
	cfg     Config
	group   string
	inboxes []*inbox
	outage  outage
}

func newSubscription(cfg Config, group string, inboxes []*inbox) *subscription {
	return &subscription{
		cfg: cfg, group: group, inboxes: inboxes, outage: outage{log: cfg.Logger, what: "subscription of " + group},
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
	reader := &bulkReader{UniversalClient: client, stream: s.cfg.Stream, group: s.group}
	subscriber, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
		Client: reader, Unmarshaller: verbatim{}, Consumer: s.cfg.Consumer, ConsumerGroup: s.group,
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
	for _, i := range s.inboxes {
		signal(i.missed)
	}
	for m := range messages {
		s.take(ctx, m)
		m.Ack()
	}
	if ctx.Err() != nil {
		return true, nil
	}
	return true, fmt.Errorf("the subscription to %s ended", s.cfg.Stream)
}

// take decodes an entry, once for all projectors.
func (s *subscription) take(ctx context.Context, m *message.Message) {
	e, err := decodeEntry(m.Payload)
	if err == nil {
		for _, i := range s.inboxes {
			i.put(e)
		}
		return
	}
	for _, i := range s.inboxes {
		s.cfg.Metrics.applied.WithLabelValues(i.projection, "bad").Inc()
	}
	s.cfg.Logger.WarnContext(ctx, "stream entry cannot be read",
		slog.String("group", s.group), slog.String("uuid", fmt.Sprintf("%.80q", m.UUID)), slog.String("error", err.Error()))
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
