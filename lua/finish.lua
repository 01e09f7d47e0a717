-- Purpose: end a lease because its task, which has no lost count, succeeded: what `conclude` does, or, if it is not tracked, `succeed`,
--          in as few commands as may be.
-- KEYS: processing, queue (of a task that holds nothing but its state: this state, and no more keys but the next), noti, waited, own...
--       (of a member of a workflow its joins and the outbox: section 7e; the five keys of the task: section 7d)
-- ARGV: lease, result (what those who wait are told), keep (milliseconds that this is kept), ended (when, in milliseconds since 1970), id
--       (of the task, or '-'), entry... (what its workflow is told, if it is a member of one)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

local lease, result, keep, ended, id = unpack(ARGV, 1, 5)

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

local own = #KEYS > 4 and #KEYS - 4 or 2
local waiting = 0
for i = own + 2, own > 2 and #KEYS or 0, 2 do
    waiting = waiting + (KEYS[i] ~= KEYS[1] and redis.call('EXISTS', KEYS[i]) or 0)
end
if waiting > 0 then -- one is woken
    for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
    redis.call('HLEN', KEYS[4])
end
-- All keys have been read: writes begin here.
if redis.call('HDEL', KEYS[1], lease) == 0 then
    return 0
end
if own > 2 then free(own, lease, id, true) end
if KEYS[own] ~= KEYS[1] then -- a key of another program's is left alone: the lease has ended
    local stored = redis.pcall('HSET', KEYS[own], 'state', 'succeeded', 'ended', ended, 'result', result)
    if type(stored) == 'number' then redis.call('PEXPIRE', KEYS[own], keep) end
end
if #ARGV > 5 then tell(own == 2 and 3 or 5, ARGV[6]) end
return 1
