package main

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// The deadlines of what is not under /v1, which sets its own: there a body may take minutes and an answer
// hours. Nothing here is larger than a few hundred kilobytes.
const (
	// headerTimeout is the time for the headers, readTimeout that for the headers and the body.
	headerTimeout = 10 * time.Second
	readTimeout   = 15 * time.Second
	// answerTimeout is the time from the headers' end to that of the answer, its sending included.
	answerTimeout = time.Minute
	// idleTimeout is how long a connection is kept without a request: longer than load balancers
	// keep theirs (a minute), which would otherwise send into connections that close.
	idleTimeout = 2 * time.Minute
	// maxHeader is the most that the headers of a request may have, in bytes.
	maxHeader = 64 << 10
)

const (
	// ownDescriptors are left for what is not a client: databases, Redis, the recorder, the policy, logs.
	ownDescriptors = 96
	// maxConnections bounds connections where descriptors do not: an idle one takes some 10 KiB.
	maxConnections = 16_384
	// maxDescriptors is what no more than maxConnections can need.
	maxDescriptors = 2*maxConnections + ownDescriptors
	// assumedDescriptors is the limit where the system does not say it: the smallest in common use.
	assumedDescriptors = 1024
	// fewestConnections are admitted however low the limit is.
	fewestConnections = 16
)

// roomFor is how many client connections a limit of descriptors has room for. Each may need one more, to
// the provider.
func roomFor(descriptors int) int {
	return min(max((descriptors-ownDescriptors)/2, fewestConnections), maxConnections)
}

// newServer serves handler with deadlines, to the connections of a crowd.
func newServer(handler http.Handler, c *crowd, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         c.changed,
		ConnContext:       c.remember,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// listen opens a listener whose connections belong to the gateway's crowd.
func (g *gateway) listen(ctx context.Context, address string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, cannotListen(address, err)
	}
	return gate{Listener: listener, crowd: g.crowd}, nil
}

// bodyless gives a request without a body the time of its answer. net/http goes on reading while a handler
// works, to see that the client leaves, and takes the end of readTimeout for that.
func bodyless(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if c.Request().ContentLength == 0 {
			// A writer without deadlines only lacks the time.
			_ = http.NewResponseController(c.Response()).SetReadDeadline(time.Now().Add(answerTimeout))
		}
		return next(c)
	}
}
