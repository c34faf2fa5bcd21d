package admin

import (
	"crypto/rand"

	"github.com/labstack/echo/v4"
)

// maxRequestID bounds an id that a client or a proxy in front made.
const maxRequestID = 128

// RequestID gives every answer an X-Request-Id: the one that a middleware before it has set, or else the
// client's own if it is of visible ASCII letters, digits, '.', '_' and '-', or else a new random one. The
// request carries it on too.
func RequestID(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		header := c.Response().Header()
		id := header.Get(echo.HeaderXRequestID)
		if id == "" {
			id = c.Request().Header.Get(echo.HeaderXRequestID)
			if !printableID(id) {
				id = rand.Text()
			}
			header.Set(echo.HeaderXRequestID, id)
		}
		c.Request().Header.Set(echo.HeaderXRequestID, id)
		return next(c)
	}
}

// printableID keeps what would forge log lines or headers out of both.
func printableID(id string) bool {
	for i := range len(id) {
		c := id[i]
		letter := (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
		if !letter && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= maxRequestID
}
