-- Applies a run of one tenant's events to its hash. KEYS[1] is the hash; ARGV[1] and ARGV[2] are the
-- versions after and up to which the run goes, ARGV[3] is the time (microseconds) before which a window
-- must have ended to leave the hash, '0' for none; then four arguments for each operation: its name, the
-- field, the version of the event, the value.
--
-- Why it is right: the hash is exactly what the stream amounted to at its version, and is only changed by
-- a run that begins at or before that version and ends after it. Values are absolute. The part of the run
-- that was applied before cannot undo anything: a register moves only to a newer version. Versions are
-- compared as strings, because Lua's numbers lose integers above 2^53.
local function newer(a, b)
  if #a ~= #b then return #a > #b end
  return a > b
end
local function version_of(value)
  return string.match(value, '^(%d+)|') or '0'
end

local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
if kind ~= 'hash' and kind ~= 'none' then return 'gap' end
local at = redis.call('HGET', key, 'version') or '0'
if not newer(ARGV[2], at) then return 'duplicate' end
if newer(ARGV[1], at) then return 'gap' end

local apply = {}

-- set writes a whole field.
function apply.set(field, version, value)
  local old = redis.call('HGET', key, field)
  if not old or newer(version, version_of(old)) then
    redis.call('HSET', key, field, version .. '|' .. value)
  end
end

-- post assigns limit|spent|reserved|presumed of a register. One that is not there belongs to a window that
-- left the hash.
function apply.post(field, version, value)
  local old = redis.call('HGET', key, field)
  if not old or not newer(version, version_of(old)) then return end
  local window, budget = string.match(old, '^%d+|([^|]*|[^|]*|[^|]*)|[^|]*|[^|]*|[^|]*|[^|]*|(.*)$')
  redis.call('HSET', key, field, version .. '|' .. window .. '|' .. value .. '|' .. budget)
end

-- change assigns source|limit|alerts of a budget.
function apply.change(field, version, value)
  local old = redis.call('HGET', key, field)
  if not old or not newer(version, version_of(old)) then return end
  local period, scope = string.match(old, '^%d+|([^|]*)|[^|]*|[^|]*|[^|]*|(.*)$')
  redis.call('HSET', key, field, version .. '|' .. period .. '|' .. value .. '|' .. scope)
end

local function each_register(visit)
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    if string.match(all[i], '^%d+$') then visit(all[i], all[i + 1]) end
  end
end

-- retire takes a budget (its id is the value) and its registers away.
function apply.retire(field, version, id)
  local old = redis.call('HGET', key, field)
  if not old or newer(version_of(old), version) then return end
  redis.call('HDEL', key, field)
  each_register(function(register, value)
    local budget = string.match(value, '^%d+|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(.*)$')
    if budget == id and newer(version, version_of(value)) then redis.call('HDEL', key, register) end
  end)
end

for i = 4, #ARGV, 4 do
  apply[ARGV[i]](ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
end
if ARGV[3] ~= '0' then
  each_register(function(register, value)
    local ended = string.match(value, '^%d+|[^|]*|[^|]*|(%d+)|')
    if ended and newer(ARGV[3], ended) then redis.call('HDEL', key, register) end
  end)
end
redis.call('HSET', key, 'version', ARGV[2])
return 'applied'
