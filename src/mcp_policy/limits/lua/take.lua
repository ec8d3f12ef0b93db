-- The sliding window of `window.py` on a server: take what all limits of one call ask, or nothing; or only look.
--
-- A log is a string of little-endian doubles: total, floor, first, indexed, then last and cost of each slot, oldest
-- first. `floor` is a moment up to which nothing is in the log (any more), `first` the earliest moment in the newest
-- slot, `indexed` the time of the newest cost that the index knows of.
--
-- Up to EXACT slots every moment has its own; beyond, a cost joins the newest slot while that is younger than
-- window / RESOLUTION. A slot counts until its last moment has left the window: room comes back late by at most that
-- much, and never early. Costs and totals are integers below 2^53, which doubles hold exactly.
--
-- An index is a sorted set of the logs of one counter, by when nothing in them counts any more, or up to
-- window / RESOLUTION earlier: it counts keys, and nothing in a log is forgotten for what it says.
--
-- KEYS: the latest time, the request; then of each limit its log and the index of its counter; all in one hash slot
-- ARGV: packed numbers: whether to take, whether a time is given (else the server's counts), that time, the capacity;
--       then of each limit its window, maximum, cost and whether it is optional
-- Returns packed: 1 and the time, and of each limit whether it was counted, its total and newest moment; or, where
--       nothing was taken, 0 and the time, and of each limit whether there is room for it, and its slots that count
--
-- Nothing but the time is written before everything has been read and found to fit. What runs each time is one flow on
-- purpose: a function costs more to make than what most lines here do.

local EXACT, RESOLUTION = 50, 100
local HEAD, SLOT = 32, 16
local DROPS = 4           -- entries of an index dropped at most for a new one
local REMEMBERED = 60000  -- milliseconds for which a request is known
local TESTED = 3600000    -- milliseconds for which keys stay where the time is given
local DAY = 86400
local TICK = 0.001        -- seconds that the server's time may be ahead of the latest that is noted

local call, pack, unpacked = redis.call, struct.pack, struct.unpack
local numbers = ARGV[1]
local takes, is_given, now, capacity = unpacked('<BBdd', numbers)
local ttl = is_given == 1 and 'PX' or 'PXAT'
local count = #KEYS / 2 - 1

-- what counts of a log: total, slots, and the rest of its head
local function live(key, window)
  local log = call('GET', key)
  if not log then
    return 0, '', nil, nil, -math.huge
  end
  local size = #log
  assert(size > HEAD and (size - HEAD) % SLOT == 0, 'a log is damaged')
  local total, floor, first, indexed = unpacked('<dddd', log)
  local at = HEAD + 1
  while at < size do
    local last, cost = unpacked('<dd', log, at)
    if last + window > now or last == now then
      break
    end
    total, floor, at = total - cost, last, at + SLOT
  end
  return total, string.sub(log, at), floor, first, indexed
end

local function has_room(index)
  return call('ZCARD', index) < capacity or #call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, 1) > 0
end

-- what all limits meet, for the caller to compute with
local function standing()
  local reply = {pack('<bd', 0, now)}
  for i = 1, count do
    local _, slots = live(KEYS[2 * i + 1], (unpacked('<d', numbers, 25 * i - 6)))
    local room = slots ~= '' or has_room(KEYS[2 * i + 2])
    reply[i + 1] = pack('<bI4', room and 1 or 0, #slots) .. slots
  end
  return table.concat(reply)
end

-- the latest time so far, which a clock that goes back does not take along; its key outlives every log

if is_given == 0 then
  local time = call('TIME')
  now = time[1] + time[2] / 1000000
end
if takes == 0 then
  local seen = call('GET', KEYS[1])
  now = seen and math.max(now, (unpacked('<d', seen))) or now
  return standing()
end
local packed = call('GET', KEYS[1])
local seen = packed and unpacked('<d', packed) or -math.huge
if seen >= now then
  now = seen
elseif is_given == 1 or now - seen >= TICK then
  local longest = DAY
  for i = 1, count do
    longest = math.max(longest, (unpacked('<d', numbers, 25 * i - 6)))
  end
  call('SET', KEYS[1], pack('<d', now), ttl, is_given == 1 and TESTED or math.ceil((now + longest) * 1000))
end

-- take from copies

local logs, writes, reply = {}, {}, pack('<bd', 1, now)
for i = 1, count do
  local key, index = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local window, maximum, cost, optional = unpacked('<dddB', numbers, 25 * i - 6)
  local total, slots, floor, first, indexed
  local log = logs[key]
  if log then
    total, slots, floor, first, indexed = log.total, log.slots, log.floor, log.first, log.indexed
  else
    total, slots, floor, first, indexed = live(key, window)
  end
  local size = #slots
  local room = cost == 0 or size > 0 or has_room(index)
  if maximum == 0 or cost > maximum or total > maximum - cost or not (room or optional == 1) then
    return call('GET', KEYS[2]) or standing()
  end
  local newest = now
  if not room or cost == 0 then
    newest = size > 0 and unpacked('<d', slots, size - SLOT + 1) or now
  else
    total = total + cost
    if size == 0 then
      if not floor then
        local step = 1e-9
        while now - step >= now do
          step = step * 2
        end
        floor = now - step
      end
      slots, first = pack('<dd', now, cost), now
    else
      local last, held = unpacked('<dd', slots, size - SLOT + 1)
      now = math.max(now, last)  -- the time may have gone back by less than a tick
      if last == now or (size >= EXACT * SLOT and now - first < window / RESOLUTION) then
        slots = string.sub(slots, 1, size - SLOT) .. pack('<dd', now, held + cost)
      else
        slots, first = slots .. pack('<dd', now, cost), now
      end
    end
    log = {total = total, slots = slots, floor = floor, first = first, indexed = indexed, index = index, window = window}
    log.is_new, logs[key], writes[#writes + 1] = size == 0, log, key
  end
  reply = reply .. pack('<bdd', room and 1 or 0, total, newest)
end

-- all of it fits: unless this very request has been here before, write

local known = call('SET', KEYS[2], reply, 'NX', 'GET', 'PX', REMEMBERED)
if known then
  return known
end
for i = 1, #writes do
  local key = writes[i]
  local log = logs[key]
  local window, index = log.window, log.index
  local step = window
  while now + step <= now do  -- too short a window to be told from none: its cost counts at its own moment
    step = step * 2
  end
  local expires = is_given == 1 and TESTED or math.ceil((now + step) * 1000) + 1
  if now - log.indexed >= window / RESOLUTION then
    log.indexed = now
    local gone = log.is_new and call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, DROPS) or {}
    if #gone > 0 then
      call('ZREM', index, unpack(gone))
    end
    call('ZADD', index, now + step, key)
    call(is_given == 1 and 'PEXPIRE' or 'PEXPIREAT', index, expires)
  end
  call('SET', key, pack('<dddd', log.total, log.floor, log.first, log.indexed) .. log.slots, ttl, expires)
end
return reply
