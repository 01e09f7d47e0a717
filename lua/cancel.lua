-- Purpose: cancel a tracked task: one in the schedule, or that waits for a key, is gone at once, one in the queue will not begin, a
--          running one is told.
-- KEYS: processing, queue, noti, waited, place (the sorted set in which its state says that it waits), history,
--       control, own... (of a member of a
--       workflow its joins and the outbox: section 7e; the five keys of the task: section 7d)
-- ARGV: id, result (what those who wait are told), keep (milliseconds that this is kept), how (what a running one is told: '1', or
--       'hard' if its process shall end with it), tracked (milliseconds that it is kept of a task that still stands in the queue),
--       entry (what its workflow is told, or ''), by (who cancels it)
-- Returns: the state in which it was ('queued', 'scheduled', 'retrying', 'running', or one of those of tasks that have ended), or ''
--          if no such task is known

local id, result, keep, how, tracked, entry, by = unpack(ARGV, 1, 7)

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

-- What a workflow hears of its members: the same passage wherever they end (docs/protocol.md, section 7e).
local function tell(i, entry) -- KEYS[i]: its joins, or the outbox of this queue if they are elsewhere; KEYS[i + 1]: the outbox
    local told = redis.pcall('RPUSH', KEYS[i], entry)
    if told == 1 and KEYS[i] ~= KEYS[i + 1] then redis.pcall('RPUSH', KEYS[i + 1], string.sub(KEYS[i], -10)) end
end
-- End of the passage.

-- What a timeline says: the same passage wherever something is added to one (docs/protocol.md, section 7g).
local function longer(log, entry) -- the first 16 entries and the last 16 stay, and between them stands how many do not
    local entries = {cmsgpack.unpack(log)}
    entries[#entries + 1] = entry
    if #entries == 33 then entries[17] = {entries[17][1], 'omitted', '', 1} end
    if #entries == 34 then entries[17][4] = entries[17][4] + 1 end
    if #entries == 34 then table.remove(entries, 18) end
    return cmsgpack.pack(unpack(entries))
end
local function record(i, kind, what, number, attempted) -- KEYS[i]: the state; `attempted`: this is how its last attempt ended
    if not cmsgpack then return end -- fakeredis has none
    local found, clock = redis.call('HMGET', KEYS[i], 'log', 'attempt', 'started', 'worker'), redis.call('TIME')
    local entry = {clock[1] * 1000 + math.floor(clock[2] / 1000), kind, string.sub(what, 1, 200), tonumber(number) or 0}
    if attempted then entry[5], entry[6], entry[7] = tonumber(found[2]) or 0, tonumber(found[3]) or 0, found[4] or '' end
    local read, log = pcall(longer, found[1] or '', entry)
    redis.call('HSET', KEYS[i], 'log', read and log or cmsgpack.pack(entry))
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

local own = #KEYS - 4
local state, data = redis.call('HGET', KEYS[own], 'state'), redis.call('HGET', KEYS[own], 'data')
redis.call('ZCARD', KEYS[5])
if KEYS[own + 1] ~= KEYS[1] then redis.call('GET', KEYS[own + 1]) end
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
if not state then
    return ''
end
local left = redis.call('PTTL', KEYS[own])
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[own], 'waits') -- first, as it frees memory: Redis then lets the rest happen though its memory is full
if state == 'running' then
    record(own, 'cancel', by, how == 'hard' and 1)
    if how == 'hard' then
        redis.call('HSET', KEYS[own], 'cancelled', how)
    else
        redis.call('HSETNX', KEYS[own], 'cancelled', how)
    end
elseif state == 'queued' or state == 'scheduled' or state == 'retrying' then
    local gone = data and redis.call('ZREM', KEYS[5], id .. data) == 1
    if not gone then -- it must stay known until it is taken
        keep = math.max(keep, tracked, left)
    elseif redis.call('EXISTS', KEYS[5]) == 0 then
        redis.call('HDEL', KEYS[4], string.sub(KEYS[5], -40))
    end
    redis.call('HDEL', KEYS[own], 'data', 'place')
    record(own, 'cancel', by)
    local clock = redis.call('TIME')
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    redis.call('HSET', KEYS[own], 'state', 'cancelled', 'cancelled', '1', 'ended', now, 'result', result)
    redis.call('PEXPIRE', KEYS[own], keep)
    free(own, '', id)
    if entry ~= '' then tell(8, entry) end
end
if OPEN[state] then
    local clock, task = redis.call('TIME'), data or ''
    local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
    local path = path_of(string.byte(task) == 58 and string.sub(task, 42) or task)
    tell_history(6, by, {{now, state == 'running' and 'cancel' or 'cancelled', path, id, 0, -1, -1, ''}})
end
return state
