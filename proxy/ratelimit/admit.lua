-- KEYS[1] the log of a tenant's admissions: a sorted set of unique members by time
-- ARGV[1] requests per window, ARGV[2] window in microseconds, ARGV[3] a unique member
-- The clock is Redis's own, one for all gateways. Microseconds since 1970 are exact in a double until 2255.
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local most, window = tonumber(ARGV[1]), tonumber(ARGV[2])
-- An admission counts while it is younger than the window: one exactly as old has left it.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
local admitted = 0
if used < most then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
  admitted, used = 1, used + 1
end
-- The wait: until so many have left that one fits. After a limit was lowered that is not the oldest.
local nth = used - most
if nth < 0 then nth = 0 end
local oldest = redis.call('ZRANGE', KEYS[1], nth, nth, 'WITHSCORES')
local reset = 0
if oldest[2] then reset = oldest[2] + window - now end
local left = most - used
if left < 0 then left = 0 end
return {admitted, left, reset}
