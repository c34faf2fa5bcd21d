package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/eventstore"
)

// DefaultStream is the Redis stream of the contract.
const DefaultStream = "budgetguard.events"

const (
	// defaultStreamLen bounds Redis' memory: at about 1.5 kB an entry, 150 MB. Whoever is further behind
	// reads the events from the admin API.
	defaultStreamLen = 100_000
	// defaultPoll bounds how long a projection can miss what the stream lost: twice this.
	defaultPoll = 2 * time.Second
	// defaultReap leaves two thirds of the three seconds in which an overdue hold must close to the ledger.
	defaultReap = time.Second
	// defaultAge is how late an idle tenant's readers may see what time has changed.
	defaultAge = 5 * time.Second
	// defaultTidy is far below the days after which things may go.
	defaultTidy = time.Hour
)

// Config says how the projections run. RedisURL is needed where Redis is used; all else has a default.
type Config struct {
	// RedisURL is Redis' address as redis://[user:password@]host:port[/db].
	RedisURL string
	// Stream is the name of the Redis stream: DefaultStream.
	Stream string
	// StreamLen is about how many entries the stream keeps.
	StreamLen int64
	// Consumer names this process in its consumer group. It must be unique; by default it is random.
	Consumer string
	// Poll is how often projectors compare their cursors with the heads of the streams.
	Poll time.Duration
	// Reap is how often overdue reservations are looked for.
	Reap time.Duration
	// Age is how often tenants are looked for of which time alone has changed something, Tidy how often what
	// nobody needs is taken away.
	Age, Tidy time.Duration
	// FreeExpired gives overdue reservations back instead of charging them (EXPIRY_POLICY=release).
	FreeExpired bool
	// OrphanAfter is how long a gateway may be silent before its open reservations are charged; 0 leaves them to
	// their time. With FreeExpired they are left, too: a gateway that only stands still would spend what was
	// given back.
	OrphanAfter time.Duration
	// Wake tells the relay that something was committed in this process. Without it the outbox is polled.
	Wake <-chan struct{}
	// Logger is told what goes wrong, by default nobody is.
	Logger *slog.Logger
	// Metrics count; by default they are not shown anywhere.
	Metrics *Metrics
}

// Heads lists the newest version of every stream.
type Heads interface {
	Heads(ctx context.Context, after domain.TenantID, limit int) ([]eventstore.Head, error)
}

// States reads a tenant's state in one snapshot, or domain.ErrTenantUnknown.
type States interface {
	State(ctx context.Context, tenant domain.TenantID) (domain.State, error)
}

// Database is the connections to the ledger's database.
type Database interface {
	Pool() *pgxpool.Pool
}

// Store is what a Worker needs to read the ledger. *eventstore.Store is one.
type Store interface {
	Heads
	States
	Database
	Outbox
	Holds
	Timely
}

// Ledger closes overdue reservations. *eventstore.Ledger is one.
type Ledger interface {
	Do(ctx context.Context, tenant domain.TenantID, c domain.Command) ([]domain.Recorded, error)
}

func (c Config) withDefaults() Config {
	if c.Stream == "" {
		c.Stream = DefaultStream
	}
	if c.StreamLen <= 0 {
		c.StreamLen = defaultStreamLen
	}
	if c.Consumer == "" {
		c.Consumer = watermill.NewUUID()
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Reap <= 0 {
		c.Reap = defaultReap
	}
	if c.Age <= 0 {
		c.Age = defaultAge
	}
	if c.Tidy <= 0 {
		c.Tidy = defaultTidy
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = newMetrics()
	}
	return c
}

// options reads RedisURL. Its errors do not repeat the URL, which may hold a password.
func (c Config) options() (*redis.Options, error) {
	options, err := redis.ParseURL(c.RedisURL)
	if err != nil {
		return nil, errors.New("redis url: want redis://[user:password@]host:port[/db]")
	}
	options.ContextTimeoutEnabled = true
	options.DialerRetries = 1 // whoever uses the client tries again, with a growing pause
	// A plain Redis announces no maintenance; asking for it costs each new connection a refused command.
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// client connects. Watermill closes the client it was given, so each part has its own.
func (c Config) client() (*redis.Client, error) {
	options, err := c.options()
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}

// watermillLog passes on what Watermill says, one level lower: what matters of it is an error here too.
func (c Config) watermillLog() watermill.LoggerAdapter {
	return untraced{watermill.NewSlogLoggerWithLevelMapping(c.Logger, map[slog.Level]slog.Level{
		slog.LevelError: slog.LevelDebug, slog.LevelInfo: slog.LevelDebug,
	})}
}

// pause grows from least to most while something keeps failing.
type pause struct {
	least, most, next time.Duration
}

func (p *pause) reset() { p.next = 0 }

// wait blocks for the pause, then doubles it. It is false when ctx ended first.
func (p *pause) wait(ctx context.Context, wake <-chan struct{}) bool {
	p.next = max(p.next, p.least)
	timer := time.NewTimer(p.next)
	defer timer.Stop()
	p.next = min(2*p.next, p.most)
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-timer.C:
	}
	return true
}

// outage logs when something begins to fail and when it works again, not each attempt in between.
type outage struct {
	log  *slog.Logger
	what string
	down bool
}

func (o *outage) note(ctx context.Context, err error) {
	if ctx.Err() != nil || (err != nil) == o.down {
		return
	}
	o.down = err != nil
	if o.down {
		o.log.WarnContext(ctx, "interrupted", slog.String("part", o.what), slog.String("error", err.Error()))
		return
	}
	o.log.InfoContext(ctx, "works again", slog.String("part", o.what))
}

func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
