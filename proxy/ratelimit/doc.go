// Package ratelimit admits at most N requests of a tenant in any sixty seconds: a sliding window, kept as
// a log of admissions in Redis so that all gateways share it. Without Redis each gateway limits by itself.
package ratelimit
