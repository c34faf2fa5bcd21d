package proxy

import (
	"math"
	"net/http"
	"strconv"
)

// limit takes one of the tenant's requests per minute.
func (x *exchange) limit() error {
	perMinute := x.s.cfg.RateLimit
	if x.who.limit != nil {
		perMinute = *x.who.limit
	}
	if perMinute <= 0 {
		return nil
	}
	v := x.s.Limiter.Admit(x.r.Context(), string(x.who.tenant), perMinute)
	h := x.w.Header()
	h.Set("X-RateLimit-Limit", strconv.FormatInt(perMinute, 10))
	h.Set("X-RateLimit-Remaining", strconv.FormatInt(v.Remaining, 10))
	h.Set("X-RateLimit-Reset", strconv.Itoa(int(math.Ceil(v.Reset.Seconds()))))
	if v.Local {
		x.s.Metrics.limitedLocally()
	}
	if v.Admitted {
		return nil
	}
	return &problem{
		status: http.StatusTooManyRequests, code: "rate_limit_exceeded", message: "Rate limit exceeded",
		detail: "at most " + strconv.FormatInt(perMinute, 10) + " requests in any minute", retryAfter: v.Reset,
	}
}
