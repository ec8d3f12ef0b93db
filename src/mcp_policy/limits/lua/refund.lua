-- Give back what was taken at one moment, if it still counts. Logs and keys are those of `take.lua`.
--
-- KEYS: the latest time (not used), the request; then of each limit its log and the index of its counter
-- ARGV: what to do; packed numbers, as `take.lua` takes them, with the moment to give back at for the capacity
--
-- `void` undoes a request of which nobody knows whether it came through: gives back what it took, if it did; and if it
-- still comes, it takes nothing.

local HEAD, SLOT = 32, 16
local REMEMBERED = 60000  -- milliseconds for which a request is known

local call, pack, unpacked = redis.call, struct.pack, struct.unpack
local numbers = ARGV[2]
local count = #KEYS / 2 - 1

local function ending(last, window)
  local step = window
  while last + step <= last do
    step = step * 2
  end
  return last + step
end

local function give_back(i, at)
  local key, index = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local window, _, cost = unpacked('<ddd', numbers, 25 * i - 6)
  local log = call('GET', key)
  if not log then
    return
  end
  assert(#log > HEAD and (#log - HEAD) % SLOT == 0, 'a log is damaged')
  local total, floor, first, indexed = unpacked('<dddd', log)
  if at <= floor then
    return
  end
  local slot = HEAD + 1
  while slot < #log and unpacked('<d', log, slot) < at do
    slot = slot + SLOT
  end
  if slot > #log then
    return
  end
  local last, held = unpacked('<dd', log, slot)
  local back = math.min(cost, held)
  local before, after = string.sub(log, HEAD + 1, slot - 1), string.sub(log, slot + SLOT)
  if held > back then
    before = before .. pack('<dd', last, held - back)
  elseif after == '' then
    -- of the slot before only its last moment is known: what is said of the newest must not be too late
    first = before ~= '' and unpacked('<d', before, #before - SLOT + 1) or floor
    indexed = first
    if #before > SLOT then
      first = unpacked('<d', before, #before - 2 * SLOT + 1)
    else
      first = floor
    end
  end
  local slots = before .. after
  if slots == '' then
    call('DEL', key)
    call('ZREM', index, key)
    return
  end
  call('ZADD', index, 'XX', ending(unpacked('<d', slots, #slots - SLOT + 1), window), key)
  call('SET', key, pack('<dddd', total - back, floor, first, indexed) .. slots, 'KEEPTTL')
end

if ARGV[1] == 'refund' then
  local _, _, _, at = unpacked('<BBdd', numbers)
  for i = 1, count do
    give_back(i, at)
  end
  return
end
local known = call('GET', KEYS[2])
call('SET', KEYS[2], '', 'PX', REMEMBERED)
if known and known ~= '' then
  local _, at = unpacked('<bd', known)
  for i = 1, count do
    if unpacked('<b', known, 17 * i - 7) == 1 then
      give_back(i, at)
    end
  end
end
