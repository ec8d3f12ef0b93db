-- What has to be one step in the approvals on a server. What a record is and what a vote makes of it is the caller's.
--
-- A record is a hash: status (P, A or R), id, expires, owner (the key of its owner's index), text. An id leads to a
-- digest, or to `=` and what became of its record. Indexes are sorted sets of digests: `live` and each owner's pending
-- ones by expiry, `waiting` by the order of asking. All keys are in one hash slot; those of records and ids are made of
-- the prefixes in ARGV, since what leads to them is only known here.
--
-- KEYS: the latest time, live, waiting, the sequence; where one is asked for, an owner's index
-- ARGV: what to do, whether a time is given (else the server's counts), that time, the prefixes of the keys of records
--       and of ids; then what is said below

local HOUR = 3600000      -- milliseconds for which a record that expired, and an id that was used, are remembered
local SWEPT = 100         -- expired records taken out of the indexes at most, in one step

local call = redis.call
local what, is_given = ARGV[1], ARGV[2] == '1'
local LATEST, LIVE, WAITING, SEQUENCE, OWNER = unpack(KEYS)

local function number(text)
  return (assert(tonumber(text), 'not a number'))
end

local function shown(moment)
  return string.format('%.17g', moment)
end

local function record_key(digest)
  return ARGV[4] .. digest
end

local function id_key(id)
  return ARGV[5] .. id
end

local function look_at_time()
  local now
  if is_given then
    now = number(ARGV[3])
  else
    local time = call('TIME')
    now = time[1] + time[2] / 1000000
  end
  local seen = call('GET', LATEST)
  return seen and math.max(now, number(seen)) or now
end

local function pass_time()
  local now = look_at_time()
  call('SET', LATEST, shown(now), 'PX', 24 * HOUR)
  return now
end

-- keep a key until an hour after a moment, or longer where it is kept so already
local function keep(key, moment)
  if is_given then
    call('PEXPIRE', key, HOUR)
  elseif call('PEXPIRETIME', key) < math.ceil(moment * 1000) + HOUR then
    call('PEXPIREAT', key, math.ceil(moment * 1000) + HOUR)
  end
end

local function read(digest)
  local found = call('HMGET', record_key(digest), 'status', 'id', 'expires', 'owner', 'text')
  return found[1] and found or nil
end

local function told(now, found)
  if not found then
    return {shown(now)}
  end
  return {shown(now), found[1], found[2], found[3], found[4], found[5]}
end

local function sweep(index, now)
  local gone = call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, SWEPT)
  if #gone > 0 then
    call('ZREM', index, unpack(gone))
    if index == LIVE then
      call('ZREM', WAITING, unpack(gone))
    end
  end
end

local actions = {}

-- the time and the record of a digest, also where it has expired; ARGV: digest
function actions.look()
  return told(look_at_time(), read(ARGV[6]))
end

-- the same, and time passes
function actions.ask()
  return told(pass_time(), read(ARGV[6]))
end

-- the same by id, or what became of it; ARGV: id
function actions.find()
  local to = call('GET', id_key(ARGV[6]))
  local now = look_at_time()
  if not to or string.sub(to, 1, 1) == '=' then
    return {shown(now), to or ''}
  end
  return told(now, read(to))
end

-- the same, and time passes
function actions.decide()
  pass_time()
  return actions.find()
end

-- a new record, unless there is a valid one or no room; ARGV: digest, id, expiry, text, how many may wait, capacity
function actions.create()
  local digest, id, expires, text = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
  local now = pass_time()
  local found = read(digest)
  if found and number(found[3]) > now then
    return told(now, found)
  end
  local after = '(' .. shown(now)
  if call('ZCOUNT', OWNER, after, '+inf') >= number(ARGV[10]) or call('ZCOUNT', LIVE, after, '+inf') >= number(ARGV[11]) then
    return 'full'
  end
  sweep(OWNER, now)
  sweep(LIVE, now)
  if found then
    call('ZREM', found[4], digest)
    call('DEL', record_key(digest))
  end
  call('HSET', record_key(digest), 'status', 'P', 'id', id, 'expires', expires, 'owner', OWNER, 'text', text)
  call('SET', id_key(id), digest)
  call('ZADD', LIVE, expires, digest)
  call('ZADD', OWNER, expires, digest)
  call('ZADD', WAITING, call('INCR', SEQUENCE), digest)
  for _, key in ipairs({record_key(digest), id_key(id), LIVE, OWNER, WAITING, SEQUENCE}) do
    keep(key, number(expires))
  end
  return 'made'
end

-- another text and status for a valid record that is still as it was; ARGV: digest, its text until now, text, status
function actions.replace()
  local digest, text, status = ARGV[6], ARGV[8], ARGV[9]
  local now = pass_time()
  local found = read(digest)
  if not found or found[5] ~= ARGV[7] or number(found[3]) <= now then
    return 0
  end
  call('HSET', record_key(digest), 'status', status, 'text', text)
  if status ~= 'P' then
    call('ZREM', WAITING, digest)
    call('ZREM', found[4], digest)
  end
  return 1
end

-- use up an approved, valid record; ARGV: digest
function actions.consume()
  local digest = ARGV[6]
  local now = pass_time()
  local found = read(digest)
  if not found or found[1] ~= 'A' or number(found[3]) <= now then
    return {shown(now)}
  end
  call('DEL', record_key(digest))
  call('ZREM', LIVE, digest)
  call('SET', id_key(found[2]), '=was approved and used', 'PX', HOUR)
  return told(now, found)
end

-- the valid records that wait, oldest first
function actions.pending()
  local now = look_at_time()
  local waiting = {}
  for _, digest in ipairs(call('ZRANGE', WAITING, 0, -1)) do
    local found = read(digest)
    if found and found[1] == 'P' and number(found[3]) > now then
      waiting[#waiting + 1] = told(now, found)
    end
  end
  return waiting
end

return actions[what]()
