package admin

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budgetguard/budgetguard/domain"
)

// Config is what the environment says about the admin API.
type Config struct {
	// AdminKey is ADMIN_API_KEY. Empty closes /admin with 503 and a hint.
	AdminKey string
	// KeyPepper is KEY_PEPPER; empty means that tenants' keys are stored as plain SHA-256.
	KeyPepper []byte
	// DefaultRateLimit is MAX_REQS_PER_MIN, what tenants without a limit of their own get; 0 is none.
	DefaultRateLimit int64
}

// Deps is what the admin API works with. All of it is needed.
type Deps struct {
	Ledger Ledger
	Reader Reader
	Usage  Usage
	Policy Policy
	// Defaults are the budgets that the environment gives a tenant. An id may be left empty.
	Defaults func(domain.TenantID) []domain.DefineBudget
	// Ready says what keeps the process from serving, nil if nothing does.
	Ready func(context.Context) error
	// Projections is the lag of each projection.
	Projections func(context.Context) ([]ProjectionLag, error)
	// Metrics is what GET /metrics shows.
	Metrics prometheus.Gatherer

	Now  func() time.Time
	Rand io.Reader // a cryptographic source: it makes keys
	Log  *slog.Logger
}

// Server is the admin API. It is safe for concurrent use. Register and RegisterHealth put it on an echo.
type Server struct {
	deps        Deps
	keyHash     [sha256.Size]byte
	closed      bool // no admin key is configured
	pepper      []byte
	defaultRate int64
	guesses     *guesses
	health      health
	docs        *docs
}

// New makes a Server. It keeps a hash of the admin key, not the key.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	docs, err := newDocs()
	if err != nil {
		return nil, err
	}
	return &Server{
		deps:        deps,
		keyHash:     sha256.Sum256([]byte(cfg.AdminKey)),
		closed:      cfg.AdminKey == "",
		pepper:      cfg.KeyPepper,
		defaultRate: cfg.DefaultRateLimit,
		guesses:     newGuesses(),
		docs:        docs,
	}, nil
}

func (d Deps) check() error {
	if d.Ledger == nil || d.Reader == nil || d.Usage == nil || d.Policy == nil {
		return errors.New("admin: Ledger, Reader, Usage and Policy are needed")
	}
	if d.Defaults == nil || d.Ready == nil || d.Projections == nil || d.Metrics == nil {
		return errors.New("admin: Defaults, Ready, Projections and Metrics are needed")
	}
	if d.Now == nil || d.Rand == nil || d.Log == nil {
		return errors.New("admin: Now, Rand and Log are needed")
	}
	return nil
}
