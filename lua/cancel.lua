-- Purpose: cancel a tracked task: one in the schedule, or that waits for a key, is gone at once, one in the queue will not begin, a
--          running one is told.
-- KEYS: processing, queue, noti, waited, place (the sorted set in which its state says that it waits), own... (the five keys of the
--       task: section 7d)
-- ARGV: id, result (what those who wait are told), keep (milliseconds that this is kept), how (what a running one is told: '1', or
--       'hard' if its process shall end with it), tracked (milliseconds that it is kept of a task that still stands in the queue)
-- Returns: the state in which it was ('queued', 'scheduled', 'retrying', 'running', or one of those of tasks that have ended), or ''
--          if no such task is known

local id, result, keep, how, tracked = unpack(ARGV, 1, 5)

-- What tasks hold: the same passage wherever leases end (docs/protocol.md, section 7d).
local function has(i, kind) -- else it stands for none, or is another program's: a lease must be able to end
    local found = KEYS[i] ~= KEYS[1] and redis.call('TYPE', KEYS[i])['ok']
    return found == kind or found == 'none'
end
local function wake(i) -- the first that waits there goes to the head of the queue
    local first = has(i, 'zset') and redis.call('ZPOPMIN', KEYS[i])[1]
    if first then
        redis.call('LPUSH', KEYS[2], string.sub(first, string.byte(first, 17) == 58 and 58 or 17))
        redis.call('LPUSH', KEYS[3], '1')
        if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('HDEL', KEYS[4], string.sub(KEYS[i], -40)) end
    end
end
local function free(own, lease, id, leaves) -- `leaves`: it does not come back at once: another's turn
    if has(own + 1, 'string') then
        local owner = redis.call('GET', KEYS[own + 1])
        if owner == id then redis.call('DEL', KEYS[own + 1]) end
        if owner == id or leaves and not owner then wake(own + 2) end
    end
    if has(own + 3, 'hash') then
        local held = redis.call('HDEL', KEYS[own + 3], lease) == 1
        if held or leaves and redis.call('EXISTS', KEYS[own + 3]) == 0 then wake(own + 4) end
    end
end
-- End of the passage.

local own = #KEYS - 4
local state, data = redis.call('HGET', KEYS[own], 'state'), redis.call('HGET', KEYS[own], 'data')
redis.call('ZCARD', KEYS[5])
if KEYS[own + 1] ~= KEYS[1] then redis.call('GET', KEYS[own + 1]) end
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
if not state then
    return ''
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[own], 'waits') -- first, as it frees memory: Redis then lets the rest happen though its memory is full
if state == 'running' then
    if how == 'hard' then
        redis.call('HSET', KEYS[own], 'cancelled', how)
    else
        redis.call('HSETNX', KEYS[own], 'cancelled', how)
    end
elseif state == 'queued' or state == 'scheduled' or state == 'retrying' then
    local gone = data and redis.call('ZREM', KEYS[5], id .. data) == 1
    if not gone then -- it must stay known until it is taken
        keep = math.max(keep, tracked, redis.call('PTTL', KEYS[own]))
    elseif redis.call('EXISTS', KEYS[5]) == 0 then
        redis.call('HDEL', KEYS[4], string.sub(KEYS[5], -40))
    end
    redis.call('HDEL', KEYS[own], 'data', 'place')
    redis.call('HSET', KEYS[own], 'state', 'cancelled', 'cancelled', '1', 'result', result)
    redis.call('PEXPIRE', KEYS[own], keep)
    free(own, '', id)
end
return state
