-- Compares a tenant's hash with a snapshot of its state, field by field, and replaces it where they
-- differ. KEYS[1] is the hash, ARGV[1] the snapshot's version, then field and value in turn.
-- Returns 'right', 'late' (the snapshot was newer and is there now) or 'repaired'.
--
-- The snapshot was read before, so the hash may have moved on honestly. A field says at which
-- version it changed last: up to the snapshot's version both must hold the same, and no field can
-- be newer than its hash. What changed after the snapshot is judged the next time. A repair may go
-- back to the snapshot's version; the comparison of versions brings it on from there.
local function newer(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function replace(reply)
  redis.call('DEL', KEYS[1])
  for i = 2, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
  redis.call('HSET', KEYS[1], 'version', ARGV[1])
  return reply
end

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return replace('late') end
if kind ~= 'hash' then return replace('repaired') end
local at = redis.call('HGET', KEYS[1], 'version') or ''
if not string.match(at, '^[1-9]%d*$') or newer(at, '9223372036854775807') then return replace('repaired') end
if newer(ARGV[1], at) then return replace('late') end

local want = {}
for i = 2, #ARGV, 2 do
  want[ARGV[i]] = string.match(ARGV[i + 1], '^%d+|(.*)$')
end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local field = all[i]
  if field ~= 'version' then
    local version, value = string.match(all[i + 1], '^(%d+)|(.*)$')
    if not version or newer(version, at) then return replace('repaired') end
    if not newer(version, ARGV[1]) then
      -- A window that ended long ago may be here and no longer in the snapshot: it goes without
      -- alarm.
      if not want[field] and string.match(field, '^%d+$') then
        redis.call('HDEL', KEYS[1], field)
      elseif want[field] ~= value then
        return replace('repaired')
      end
    end
    want[field] = nil
  end
end
-- Only an event after the snapshot can have taken one of its fields away.
if at == ARGV[1] and next(want) then return replace('repaired') end
return 'right'
