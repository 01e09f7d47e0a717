-- Purpose: end a lease by moving its task, as it came, to the dead letters.
-- KEYS: processing, queue, noti, waited, lost, dead, own... (the five keys of a task that holds something: section 7d; else none)
-- ARGV: lease, reason (one word), detail (a sentence or a traceback), worker (who buried it)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

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

for i = 2, #KEYS > 6 and 3 or 0 do
    redis.call('LLEN', KEYS[i])
    redis.call('HLEN', KEYS[4])
end
redis.call('HLEN', KEYS[5])
redis.call('XLEN', KEYS[6])
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[5], redis.sha1hex(task))
redis.call('XADD', KEYS[6], '*', 'task', task, 'reason', ARGV[2], 'detail', ARGV[3], 'worker', ARGV[4])
if #KEYS > 6 then free(7, ARGV[1], '-', true) end
return 1
