-- Purpose: end the leases whose key is gone: their worker died or lost them. Each task goes back to the head of the
--          queue, or to the dead letters once it has been lost too often: then a tracked one has failed.
-- KEYS: processing, queue, noti, waited, lost, dead, stats, bucket, history, control, lease... (each followed by the five keys of its
--       task, if that holds something: section 7d; and by the joins of its workflow and the outbox, if it is a member of one: section
--       7e)
-- ARGV: limit (losses that bury a task), pass (a token of this sweep: it counts tasks of the same bytes once),
--       sweeper (who does it), cause (what is known of it: words to add to the detail, or none), about... (for each lease four: the
--       id of its task, '-' if that is not tracked, or '' if it holds nothing and has no keys here; milliseconds that its end is
--       kept; 'running' if it has its unique key only while it runs, or ''; what its workflow is told if it is buried, or '')
-- Returns: {tasks put back, tasks buried, more (1: large tasks used up the budget, call again)}

local limit, pass, sweeper, cause = unpack(ARGV, 1, 4)

local BUDGET = 1048576 -- bytes of tasks in one call
local KEEP = 86400 -- seconds that a loss is remembered after the last one
local MOST = 10000 -- losses remembered; past that they are all forgotten rather than grow
local LOST = 'its worker died or lost its lease'

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

local function packed(text) -- a string in MessagePack
    local size = #text
    return (size < 32 and string.char(160 + size) or size < 256 and string.char(217, size)
        or string.char(218, math.floor(size / 256) % 256, size % 256)) .. text
end
local function fail(own, now, keep, detail, entry) -- a tracked task that is buried
    local result = '\148' .. packed('failed') .. packed('lost') .. packed(detail) .. packed('')
    if entry ~= '' then tell(own + 5, entry .. result) end
    if has(own, 'hash') then
        redis.call('HDEL', KEYS[own], 'data', 'waits', 'place')
        redis.call('HSET', KEYS[own], 'state', 'failed', 'error', 'lost: ' .. detail, 'ended', now, 'result', result)
        redis.call('PEXPIRE', KEYS[own], keep)
    end
end

for i = 2, 3 do
    redis.call('LLEN', KEYS[i])
    redis.call('HLEN', KEYS[i + 2])
end
redis.call('HLEN', KEYS[1])
redis.call('XLEN', KEYS[6])
local recovered, buried, tokens, bytes, more, at, events = 0, 0, 0, 0, 0, 11, {}
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- All keys have been read: writes begin here.
for i = 5, #ARGV, 4 do
    local lease, own, id, keep, entry = at, ARGV[i] ~= '' and at + 5 <= #KEYS and at + 1, ARGV[i], ARGV[i + 1], ARGV[i + 3]
    at = at + (own and 6 or 1) + (entry ~= '' and 2 or 0)
    local task = redis.call('EXISTS', KEYS[lease]) == 0 and redis.call('HGET', KEYS[1], KEYS[lease])
    if task then
        if bytes > BUDGET then
            more = 1
            break
        end
        bytes = bytes + #task
        redis.call('HDEL', KEYS[1], KEYS[lease])
        local digest = redis.sha1hex(task)
        local count, last = string.match(redis.call('HGET', KEYS[5], digest) or '', '^(%d+):(.*)$')
        count = tonumber(count or 0) + (last == pass and 0 or 1)
        local outcome = count >= tonumber(limit) and 'buried' or 'lost'
        local said = string.sub(LOST .. cause, 1, 200)
        events[#events + 1] = {now, outcome, path_of(task), own and id ~= '-' and id or '', count, -1, -1, said}
        if outcome == 'buried' then
            local detail = LOST .. ' ' .. count .. ' times' .. cause
            redis.call('XADD', KEYS[6], '*', 'task', task, 'reason', 'lost', 'detail', detail, 'worker', sweeper)
            redis.call('HDEL', KEYS[5], digest)
            if own then free(own, KEYS[lease], id, true) end
            if own and id ~= '-' then fail(own, now, keep, detail, entry) end
            buried = buried + 1
        else
            if redis.call('HLEN', KEYS[5]) >= MOST then redis.call('DEL', KEYS[5]) end
            redis.call('HSET', KEYS[5], digest, count .. ':' .. pass)
            redis.call('EXPIRE', KEYS[5], KEEP)
            if own then free(own, KEYS[lease], ARGV[i + 2] == 'running' and id or '') end
            local state = own and has(own, 'hash') and redis.call('HGET', KEYS[own], 'state')
            local began = state == 'running'
            if state then record(own, 'lost', LOST .. cause, count, began) end
            if began then redis.call('HSET', KEYS[own], 'state', 'queued', 'error', LOST .. cause) end
            redis.call('LPUSH', KEYS[2], task)
            redis.call('LPUSH', KEYS[3], '1')
            recovered, tokens = recovered + 1, tokens + (began and 0 or 1)
        end
    end
end
tell_history(9, sweeper, events)
-- What is no number, or no hash, only costs the statistics, or the tokens: lost tasks must come back.
if recovered > 0 then redis.pcall('HINCRBY', KEYS[7], 'recovered', recovered) end
if buried > 0 then redis.pcall('HINCRBY', KEYS[7], 'buried', buried) end
if tokens > 0 and redis.call('TYPE', KEYS[8])['ok'] == 'hash' then redis.pcall('HINCRBYFLOAT', KEYS[8], 'tokens', tokens) end
return {recovered, buried, more}
