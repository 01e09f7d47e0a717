-- Purpose: remove tasks that wait in one place. A tracked one is cancelled: those who wait for it are told, and what it held is free.
-- KEYS: processing, queue, noti, waited, groups, place (the queue, the list of a group, the schedule, or a set of those that wait for a
--       key), history, control, own... (of each task that is tracked its five keys: section 7d; and if it is a member of a workflow, the
--       joins of that and the outbox: section 7e)
-- ARGV: result (what those who wait are told), keep (milliseconds that this is kept), by (who removes them), task... (each as it
--       stands there, after its id, or '' if it is not tracked, and what its workflow is told, or '')
-- Returns: for each task '' if it was not there any more, 'removed', or the state in which it was until it was cancelled

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

-- What a history says: the same passage wherever a script adds to one (docs/protocol.md, section 7h).
local function path_of(task) -- its first element, if that is a string of less than 256 bytes
    local size, first = string.byte(task, 2) or 0, 3
    if size == 217 then size, first = string.byte(task, 3) or 0, 4 else size = size >= 160 and size < 192 and size - 160 or 0 end
    return string.sub(task, first, first + size - 1)
end
local function tell_history(i, by, events) -- KEYS[i]: the history; KEYS[i + 1]: what operators want. It keeps no lease from ending
    if #events == 0 or not cmsgpack or redis.pcall('HGET', KEYS[i + 1], 'history') == 'off' then return end -- fakeredis has none
    redis.pcall('XADD', KEYS[i], '*', 'batch', cmsgpack.pack({by, {}, events}))
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
for i = 4, #ARGV, 3 do
    local there = listed and redis.call('LREM', KEYS[6], 1, ARGV[i + 2]) or not listed and redis.call('ZREM', KEYS[6], ARGV[i + 2])
    words[#words + 1] = there == 1 and 'removed' or ''
    if there == 1 and KEYS[6] == KEYS[2] then redis.call('RPOP', KEYS[3]) end
end
if before > 0 and redis.call('EXISTS', KEYS[6]) == 0 then -- no turn for a group, and no wake for a key, of which nothing waits
    local name = string.sub(KEYS[6], -40)
    if not listed then redis.call('HDEL', KEYS[4], name) elseif KEYS[6] ~= KEYS[2] then redis.call('LREM', KEYS[5], 0, name) end
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local events = {}
for i = #ARGV - 2, 4, -3 do
    local id, entry, task, position = ARGV[i], ARGV[i + 1], ARGV[i + 2], (i - 1) / 3
    own = own - (id ~= '' and 5 or 0) - (entry ~= '' and 2 or 0)
    local state = id ~= '' and words[position] ~= '' and has(own, 'hash') and redis.call('HGET', KEYS[own], 'state')
    if UNBEGUN[state] then
        words[position] = state
        redis.call('HDEL', KEYS[own], 'data', 'place', 'waits')
        redis.call('HSET', KEYS[own], 'state', 'cancelled', 'cancelled', '1', 'ended', now, 'result', ARGV[1])
        redis.call('PEXPIRE', KEYS[own], ARGV[2])
    end
    if words[position] ~= '' then
        local first = listed and 1 or string.byte(task, 17) == 58 and 58 or 17
        events[#events + 1] = {now, 'removed', path_of(string.sub(task, first)), id, 0, -1, -1, ''}
    end
    if id ~= '' and words[position] ~= '' then free(own, '', id) end
    if entry ~= '' and words[position] ~= '' then tell(own + 5, entry) end
end
tell_history(7, ARGV[3], events)
return words
