-- Purpose: store that a tracked task has failed which a sweep of an older version has buried, for those who wait for it, and free its
--          unique key.
-- KEYS: processing, queue, noti, waited, dead, own... (the five keys of the task: section 7d)
-- ARGV: letter (its id in the stream), id (of the task), result (what those who wait are told), keep (milliseconds that this is
--       kept)
-- Returns: 1, or 0 if there was nobody to tell: the letter is gone, or the task has ended before, or is not known any more

local OPEN = {queued = 1, scheduled = 1, running = 1, retrying = 1}

-- What tasks hold: the same passage wherever leases end (docs/protocol.md, section 7d). A key of another program's is left alone, as a
-- lease must be able to end.
local function has(i, kind) -- else it stands for none, or is another program's
    local found = KEYS[i] ~= KEYS[1] and redis.call('TYPE', KEYS[i])['ok']
    return found == kind or found == 'none'
end
local function wake(i) -- the first that waits there goes to the head of the queue
    local first = KEYS[i] ~= KEYS[1] and redis.pcall('ZPOPMIN', KEYS[i])[1]
    if first then
        redis.call('LPUSH', KEYS[2], string.sub(first, string.byte(first, 17) == 58 and 58 or 17))
        redis.call('LPUSH', KEYS[3], '1')
        if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('HDEL', KEYS[4], string.sub(KEYS[i], -40)) end
    end
end
local function free(own, lease, id, leaves) -- `leaves`: it does not come back at once: another's turn
    local owner = KEYS[own + 1] ~= KEYS[1] and redis.pcall('GET', KEYS[own + 1])
    if owner == id then redis.call('DEL', KEYS[own + 1]) end
    if owner == id or leaves and not owner then wake(own + 2) end
    local held = KEYS[own + 3] ~= KEYS[1] and redis.pcall('HDEL', KEYS[own + 3], lease)
    if held == 1 or leaves and held == 0 and redis.call('EXISTS', KEYS[own + 3]) == 0 then wake(own + 4) end
end
-- End of the passage.

local letter = redis.call('XRANGE', KEYS[5], ARGV[1], ARGV[1])[1]
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
-- A key that has a foreign type is left alone: sweeps go on.
local own = #KEYS - 4
local state = has(own, 'hash') and redis.call('HGET', KEYS[own], 'state')
if not letter then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[4], '') -- first, as a removal: Redis then lets the rest happen though its memory is full
free(own, '', ARGV[2])
if not state or not OPEN[state] then
    return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', KEYS[own], 'state', 'failed', 'error', 'lost', 'ended', now, 'result', ARGV[3])
redis.call('PEXPIRE', KEYS[own], ARGV[4])
return 1
