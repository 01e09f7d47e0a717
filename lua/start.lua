-- Purpose: begin a task that is tracked or has a concurrency key, if it may: it gets its slot, its unique key and its state in one
--          step. Where another has its key, the task waits for that, and the lease holds nothing any more.
-- KEYS: processing, queue, noti, waited, bucket, own... (the five keys of the task: section 7d)
-- ARGV: lease, id (of a tracked task, or '-'), fate (of the unique key: 'take', 'free', or 'leave'), bound (milliseconds that it
--       stays taken), worker (who begins), now (milliseconds since 1970), tracked (milliseconds that its state is kept), attempt, limit
--       (tasks with its concurrency key that run at once, or 0), mark (what stands before the task while it waits: 16 characters,
--       and if it has a group a colon and its digest)
-- Returns: 1; 0 if the lease does not hold a task any more; 2 if the task has been cancelled; 3 if it waits for its unique key; 4 if
--          it waits for a slot

local lease, id, fate, bound, worker, now, tracked, attempt, limit, mark = unpack(ARGV, 1, 10)

local WAITS = {'another task with its unique key is running', 'as many tasks with its concurrency key are running as may'}
local WALK = 100 -- slots that are looked at one by one; where there are more, only sweepers do that

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

local own, has_state = #KEYS - 4, id ~= '-'
limit = tonumber(limit)
local unique, taken, stale = KEYS[own + 1] ~= KEYS[1], 0, {}
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
if unique then redis.call('ZCARD', KEYS[own + 2]) end
if limit > 0 then redis.call('ZCARD', KEYS[own + 4]) end
local cancelled = has_state and redis.call('HEXISTS', KEYS[own], 'cancelled') == 1
local owner = unique and redis.call('GET', KEYS[own + 1])
local size = redis.call('HSTRLEN', KEYS[1], lease)
if limit > 0 then
    -- A slot is a lease and the length of the task that runs under it; others are left over. They are looked for if none seems free.
    taken = redis.call('HLEN', KEYS[own + 3]) - redis.call('HEXISTS', KEYS[own + 3], lease)
    local slots = taken >= limit and taken <= WALK and redis.call('HGETALL', KEYS[own + 3]) or {}
    for i = 1, #slots, 2 do
        if slots[i] ~= lease and redis.call('HSTRLEN', KEYS[1], slots[i]) ~= tonumber(slots[i + 1]) then
            stale[#stale + 1], taken = slots[i], taken - 1
        end
    end
end
if size == 0 then
    return 0
end
-- All keys have been read: writes begin here.
-- Removals first, as they free memory: Redis then lets the rest happen though its memory is full.
if has_state then redis.call('HDEL', KEYS[own], 'data', 'waits', 'place') end
if limit > 0 then redis.call('HDEL', KEYS[own + 3], lease) end
for i = 1, #stale do redis.call('HDEL', KEYS[own + 3], stale[i]) end
local rival, full = fate == 'take' and owner and owner ~= id, limit > 0 and taken >= limit
if not cancelled and not rival and not full then
    if limit > 0 then
        redis.call('HSET', KEYS[own + 3], lease, size)
        redis.call('PEXPIRE', KEYS[own + 3], tracked)
    end
    if fate == 'take' then
        redis.call('SET', KEYS[own + 1], id, 'PX', bound)
    elseif fate == 'free' and owner == id then
        redis.call('DEL', KEYS[own + 1])
        wake(own + 2)
    end
    if has_state then
        redis.call('HSET', KEYS[own], 'state', 'running', 'worker', worker, 'started', now, 'attempt', attempt)
        if fate == 'take' or fate == 'leave' and owner == id then redis.call('HSET', KEYS[own], 'unique', KEYS[own + 1]) end
        redis.call('PEXPIRE', KEYS[own], tracked)
    end
    return 1
end
-- It may have been woken: what it cannot use goes to another.
if fate == 'take' and not owner then wake(own + 2) end
if limit > 0 and not full then wake(own + 4) end
if cancelled then
    return 2
end
local place, sought = own + 4, 'slots:' .. string.sub(KEYS[own + 3], -40) .. ':'
if rival then
    place, sought = own + 2, 'unique:' .. string.sub(KEYS[own + 1], -40)
else -- with different limits for one key the highest counts, as whoever waits asks again
    local most = string.match(redis.call('HGET', KEYS[4], string.sub(KEYS[place], -40)) or '', ':(%d+)$')
    sought = sought .. string.format('%.0f', math.max(limit, tonumber(most or 0)))
end
local clock, task = redis.call('TIME'), redis.call('HGET', KEYS[1], lease)
redis.call('HDEL', KEYS[1], lease)
redis.call('ZADD', KEYS[place], clock[1] * 1000 + clock[2] / 1000, mark .. task)
redis.call('HSET', KEYS[4], string.sub(KEYS[place], -40), sought)
if redis.call('TYPE', KEYS[5])['ok'] == 'hash' then redis.pcall('HINCRBYFLOAT', KEYS[5], 'tokens', 1) end
if has_state then
    local why = rival and WAITS[1] or WAITS[2]
    record(own, 'waits', why)
    redis.call('HSET', KEYS[own], 'state', 'queued', 'waits', why, 'data', string.sub(mark, 17) .. task, 'place', KEYS[place])
    redis.call('PEXPIRE', KEYS[own], tracked)
end
return rival and 3 or 4
