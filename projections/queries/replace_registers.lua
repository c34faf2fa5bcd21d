-- Replaces a tenant's hash by a snapshot of its state. KEYS[1] is the hash, ARGV[1] the snapshot's version,
-- ARGV[2] '1' when an older snapshot may win too, then field and value in turn. Two who replace at once
-- cannot go back: the older snapshot is refused.
local function newer(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local at = '0'
if redis.call('TYPE', KEYS[1]).ok == 'hash' then at = redis.call('HGET', KEYS[1], 'version') or '0' end
-- What is no version was not written here, and would else be newer than everything for good.
if not string.match(at, '^%d+$') or newer(at, '9223372036854775807') then at = '0' end
if ARGV[2] ~= '1' and newer(at, ARGV[1]) then return 'duplicate' end
redis.call('DEL', KEYS[1])
for i = 3, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
redis.call('HSET', KEYS[1], 'version', ARGV[1])
return 'applied'
