-- Purpose: remove tasks that wait in one place. A tracked one is cancelled: those who wait for it are told, and what it held is free.
-- KEYS: processing, queue, noti, waited, groups, place (the queue, the list of a group, the schedule, or a set of those that wait for a
--       key), own... (of each task that is tracked its five keys: section 7d)
-- ARGV: result (what those who wait are told), keep (milliseconds that this is kept), task... (each as it stands there, after its id, or
--       '' if it is not tracked)
-- Returns: for each task '' if it was not there any more, 'removed', or the state in which it was until it was cancelled

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

local UNBEGUN = {queued = true, scheduled = true, retrying = true}
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
redis.call('LLEN', KEYS[5])
local listed = redis.call('TYPE', KEYS[6])['ok'] == 'list'
local before = listed and redis.call('LLEN', KEYS[6]) or redis.call('ZCARD', KEYS[6])
local words, own = {}, #KEYS + 1
-- All keys have been read: writes begin here.
-- Removals first, as they free memory: Redis then lets the rest happen though its memory is full.
for i = 3, #ARGV, 2 do
    local there = listed and redis.call('LREM', KEYS[6], 1, ARGV[i + 1]) or not listed and redis.call('ZREM', KEYS[6], ARGV[i + 1])
    words[#words + 1] = there == 1 and 'removed' or ''
    if there == 1 and KEYS[6] == KEYS[2] then redis.call('RPOP', KEYS[3]) end
end
if before > 0 and redis.call('EXISTS', KEYS[6]) == 0 then -- no turn for a group, and no wake for a key, of which nothing waits
    local name = string.sub(KEYS[6], -40)
    if not listed then redis.call('HDEL', KEYS[4], name) elseif KEYS[6] ~= KEYS[2] then redis.call('LREM', KEYS[5], 0, name) end
end
for i = #ARGV - 1, 3, -2 do
    local id, position = ARGV[i], (i - 1) / 2
    own = id ~= '' and own - 5 or own
    local state = id ~= '' and words[position] ~= '' and has(own, 'hash') and redis.call('HGET', KEYS[own], 'state')
    if UNBEGUN[state] then
        words[position] = state
        redis.call('HDEL', KEYS[own], 'data', 'place', 'waits')
        redis.call('HSET', KEYS[own], 'state', 'cancelled', 'cancelled', '1', 'result', ARGV[1])
        redis.call('PEXPIRE', KEYS[own], ARGV[2])
    end
    if id ~= '' and words[position] ~= '' then free(own, '', id) end
end
return words
