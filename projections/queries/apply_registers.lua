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

-- A register is version|period|start|end|limit|spent|reserved|presumed|width|oldest|buckets|budget, where the
-- last five mean nothing but for a rolling window: its length, the oldest part that counts, and what was
-- charged by part, as number:spent:presumed with commas between.
local register_pattern = '^(%d+)|([^|]*|[^|]*|[^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|(.*)$'

-- read gives a register's parts if there is one that is older than the event. One that is not there belongs to
-- a window that left the hash.
local function read(field, version)
  local old = redis.call('HGET', key, field)
  if not old or not newer(version, version_of(old)) then return nil end
  local r = {}
  local _
  _, r.window, r.limit, r.spent, r.reserved, r.presumed, r.length, r.oldest, r.buckets, r.budget = string.match(old, register_pattern)
  return r
end

local function write(field, version, r)
  redis.call('HSET', key, field, table.concat({ version, r.window, r.limit, r.spent, r.reserved, r.presumed, r.length, r.oldest, r.buckets, r.budget }, '|'))
end

local function assign(r, value)
  local rest
  r.limit, r.spent, r.reserved, r.presumed, rest = string.match(value, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|?(.*)$')
  return rest
end

-- plus adds whole numbers in Redis, which has 64 bits for them.
local function plus(a, b)
  redis.call('HSET', key, '+', a)
  redis.call('HINCRBY', key, '+', b)
  local sum = redis.call('HGET', key, '+')
  redis.call('HDEL', key, '+')
  return sum
end
local function negative(a)
  if a == '0' then return a end
  if string.sub(a, 1, 1) == '-' then return string.sub(a, 2) end
  return '-' .. a
end
local function minus(a, b)
  return plus(a, negative(b))
end
local function positive(a)
  return a ~= '0' and string.sub(a, 1, 1) ~= '-'
end

-- bucket adds to the part of a rolling window that holds a time, and keeps the parts in order. What is given
-- back beyond a part's own comes from the parts before it, the newest first.
local function bucket(r, at, spent, presumed)
  local number = math.floor(tonumber(at) / (tonumber(r.length) / 60))
  local parts, added = {}, false
  local function add()
    parts[#parts + 1] = { n = number, s = spent, p = presumed }
    added = true
  end
  for n, s, p in string.gmatch(r.buckets, '(%-?%d+):(%-?%d+):(%-?%d+)') do
    n = tonumber(n)
    if not added and n > number then add() end
    if n == number then
      s, p, added = plus(s, spent), plus(p, presumed), true
    end
    parts[#parts + 1] = { n = n, s = s, p = p }
  end
  if not added then add() end
  for i = #parts, 2, -1 do
    local missing = minus(parts[i].p, parts[i].s)
    if positive(missing) then
      parts[i].s, parts[i - 1].s = plus(parts[i].s, missing), minus(parts[i - 1].s, missing)
    end
  end
  local kept = {}
  for _, part in ipairs(parts) do
    if part.s ~= '0' or part.p ~= '0' then kept[#kept + 1] = string.format('%.0f:%s:%s', part.n, part.s, part.p) end
  end
  r.buckets = table.concat(kept, ',')
end

-- post assigns limit|spent|reserved|presumed of a register.
function apply.post(field, version, value)
  local r = read(field, version)
  if not r then return end
  assign(r, value)
  write(field, version, r)
end

-- charge is post for a charge of something reserved at a time, which follows behind a bar. Only a rolling
-- window asks for each of them in turn.
function apply.charge(field, version, value)
  local r = read(field, version)
  if not r or r.length == '0' then return end
  local spent, presumed = r.spent, r.presumed
  local at = assign(r, value)
  spent, presumed = minus(r.spent, spent), minus(r.presumed, presumed)
  if spent ~= '0' or presumed ~= '0' then bucket(r, at, spent, presumed) end
  write(field, version, r)
end

-- slide is post for a rolling window that lost the parts before the one whose number follows behind a bar.
function apply.slide(field, version, value)
  local r = read(field, version)
  if not r then return end
  r.oldest = assign(r, value)
  local kept = {}
  for n, s, p in string.gmatch(r.buckets, '(%-?%d+):(%-?%d+):(%-?%d+)') do
    if tonumber(n) >= tonumber(r.oldest) then kept[#kept + 1] = n .. ':' .. s .. ':' .. p end
  end
  r.buckets = table.concat(kept, ',')
  write(field, version, r)
end

-- change assigns source|limit|raises|alerts of a budget.
function apply.change(field, version, value)
  local old = redis.call('HGET', key, field)
  if not old or not newer(version, version_of(old)) then return end
  local period, shape = string.match(old, '^%d+|([^|]*)|[^|]*|[^|]*|[^|]*|[^|]*|(.*)$')
  redis.call('HSET', key, field, version .. '|' .. period .. '|' .. value .. '|' .. shape)
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
    local budget = string.match(value, '^%d+|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|[^|]*|(.*)$')
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
