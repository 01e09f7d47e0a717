-- Purpose: end a lease for good when its task is tracked: its state and result are stored, what it held is free, and a task that did
--          not succeed becomes a dead letter.
-- KEYS: processing, queue, noti, waited, lost, dead, own... (of a member of a workflow its joins and the outbox: section 7e; the five
--       keys of the task: section 7d)
-- ARGV: lease, id (of the task), state (how it ended), result (what those who wait are told), keep (milliseconds that this is
--       kept, or 0), reason (of the dead letter, or '' for none), detail, worker (who ends it), error (what a task that failed
--       said, or ''), entry (what its workflow is told, or '')
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

local lease, id, state, result, keep, reason, detail, worker, error, entry = unpack(ARGV, 1, 10)

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

-- What a workflow hears of its members: the same passage wherever they end (docs/protocol.md, section 7e).
local function tell(i, entry) -- KEYS[i]: its joins, or the outbox of this queue if they are elsewhere; KEYS[i + 1]: the outbox
    local told = redis.pcall('RPUSH', KEYS[i], entry)
    if told == 1 and KEYS[i] ~= KEYS[i + 1] then redis.pcall('RPUSH', KEYS[i + 1], string.sub(KEYS[i], -10)) end
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
        local clock = redis.call('TIME')
        local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
        redis.call('HSET', KEYS[own], 'state', state, 'worker', worker, 'ended', now, 'result', result)
        if error ~= '' then redis.call('HSET', KEYS[own], 'error', error) end
        redis.call('PEXPIRE', KEYS[own], keep)
    else
        redis.call('DEL', KEYS[own])
    end
end
if entry ~= '' then tell(7, entry) end
return 1
