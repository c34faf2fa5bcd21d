package projections

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/redis/go-redis/v9"
)

const (
	// readMost is how many entries are read from the stream at once: some hundred kilobytes. At a second's
	// worth of events more would save nothing.
	readMost = 100
	// acknowledgeWithin bounds the last acknowledgement of a subscription that ends.
	acknowledgeWithin = time.Second
)

// Watermill asks Redis for one entry, acknowledges it alone and adds each in a round trip of its own, which
// cost more than the events' work. The clients here stand between: what Watermill sees is the same.

// bulkReader is a subscriber's client. It reads many entries and hands them out one by one, and sends the
// acknowledgements before it reads again, which is within blockTime.
type bulkReader struct {
	redis.UniversalClient
	stream, group string
	ahead         []redis.XMessage // used by Watermill's one reading goroutine

	mu   sync.Mutex
	acks []string
}

// XReadGroup returns one entry.
func (r *bulkReader) XReadGroup(ctx context.Context, a *redis.XReadGroupArgs) *redis.XStreamSliceCmd {
	if len(r.ahead) == 0 {
		if err := r.acknowledge(ctx); err != nil {
			return redis.NewXStreamSliceCmdResult(nil, err)
		}
		many := *a
		many.Count = readMost
		streams, err := r.UniversalClient.XReadGroup(ctx, &many).Result()
		if err != nil || len(streams) == 0 || len(streams[0].Messages) == 0 {
			return redis.NewXStreamSliceCmdResult(nil, err)
		}
		r.ahead = streams[0].Messages
	}
	one := redis.XStream{Stream: r.stream, Messages: r.ahead[:1:1]}
	r.ahead = r.ahead[1:]
	return redis.NewXStreamSliceCmdResult([]redis.XStream{one}, nil)
}

// XAck remembers what is to be acknowledged. What is lost of it with this process is given to another and
// known there.
func (r *bulkReader) XAck(_ context.Context, _, _ string, ids ...string) *redis.IntCmd {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = append(r.acks, ids...)
	return redis.NewIntResult(int64(len(ids)), nil)
}

func (r *bulkReader) acknowledge(ctx context.Context) error {
	r.mu.Lock()
	ids := slices.Clone(r.acks)
	r.acks = r.acks[:0]
	r.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	return r.UniversalClient.XAck(ctx, r.stream, r.group, ids...).Err()
}

// Close acknowledges the rest and disconnects.
func (r *bulkReader) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), acknowledgeWithin)
	defer cancel()
	_ = r.acknowledge(ctx) // of a Redis that is gone there is nothing to say: the subscription's error did
	return r.UniversalClient.Close()
}

// bulkWriter is a publisher's client. It collects what Watermill adds until it is told to send all at once:
// all of it is on the stream then, in order, or nothing. It is not safe for concurrent use.
type bulkWriter struct {
	redis.UniversalClient
	added redis.Pipeliner
}

func newBulkWriter(client redis.UniversalClient) *bulkWriter {
	return &bulkWriter{UniversalClient: client, added: client.TxPipeline()}
}

// XAdd answers at once, with an empty id.
func (w *bulkWriter) XAdd(ctx context.Context, a *redis.XAddArgs) *redis.StringCmd {
	return w.added.XAdd(ctx, a)
}

func (w *bulkWriter) send(ctx context.Context) error {
	_, err := w.added.Exec(ctx) // it begins anew, also after an error
	return err
}

// untraced keeps from Watermill's logger what it says of each message: making the attributes costs more than
// the message.
type untraced struct{ watermill.LoggerAdapter }

func (untraced) Trace(string, watermill.LogFields) {}

func (u untraced) With(fields watermill.LogFields) watermill.LoggerAdapter {
	return untraced{u.LoggerAdapter.With(fields)}
}
