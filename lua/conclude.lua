-- Purpose: end a lease for good when its task is tracked: its state and result are stored, what it held is free, and a task that did
--          not succeed becomes a dead letter.
-- KEYS: processing, queue, noti, waited, lost, dead, own... (the five keys of the task: section 7d)
-- ARGV: lease, id (of the task), state (how it ended), result (what those who wait are told), keep (milliseconds that this is
--       kept, or 0), reason (of the dead letter, or '' for none), detail, worker (who ends it), error (what a task that failed
--       said, or '')
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

local lease, id, state, result, keep, reason, detail, worker, error = unpack(ARGV, 1, 9)

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

for i = 2, 3 do
    redis.call('LLEN', KEYS[i])
    redis.call('HLEN', KEYS[i + 2])
end
redis.call('XLEN', KEYS[6])
local own, kept = #KEYS - 4, tonumber(keep) > 0
local task = redis.call('HGET', KEYS[1], lease)
if not task then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], lease)
redis.call('HDEL', KEYS[5], redis.sha1hex(task))
free(own, lease, id, true)
if reason ~= '' then
    redis.call('XADD', KEYS[6], '*', 'task', task, 'reason', reason, 'detail', detail, 'worker', worker)
end
if has(own, 'hash') then
    if kept then
        redis.call('HDEL', KEYS[own], 'data', 'waits', 'place')
        redis.call('HSET', KEYS[own], 'state', state, 'worker', worker, 'result', result)
        if error ~= '' then redis.call('HSET', KEYS[own], 'error', error) end
        redis.call('PEXPIRE', KEYS[own], keep)
    else
        redis.call('DEL', KEYS[own])
    end
end
return 1
