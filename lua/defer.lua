-- Purpose: end a lease whose task cannot run here now, and may elsewhere or later: it waits, unchanged, and each time for longer.
--          What it held is free, and so is the token that it took.
-- KEYS: processing, queue, noti, waited, scheduled, wake, deferred, bucket, own... (the five keys of the task, the unique one only if
--       the task has it while it runs: section 7d)
-- ARGV: lease, id (16 characters: of a tracked task, or of no meaning), tracked (milliseconds that its state is kept beyond the
--       pause, or 0 for a task without one), limit (milliseconds from the first time on after which it does not wait any more), word
--       (what announces it, as for `submit`), cause (why it waits)
-- Returns: {1, pause, age} (milliseconds until it is tried again, and since it was deferred first); {2, 0, age} if the time is over:
--          nothing has happened; {0} if the lease does not hold a task any more (the caller was superseded)

local lease, id, tracked, limit, word, cause = unpack(ARGV, 1, 6)

local FIRST, LONGEST = 1000, 60000 -- milliseconds
local FORGOTTEN = 600000 -- milliseconds after the last time, beyond the longest pause, after which it is the first time again
local MOST, KEEP = 100000, 86400000 -- notes, and milliseconds that they are kept

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

local first = redis.call('ZRANGE', KEYS[5], 0, 0, 'WITHSCORES')[2]
local rings, own = redis.call('LLEN', KEYS[6]), #KEYS - 4
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
redis.call('HLEN', KEYS[4])
local task = redis.call('HGET', KEYS[1], lease)
local digest, clock = redis.sha1hex(task or ''), redis.call('TIME')
local note, notes = redis.call('HGET', KEYS[7], digest), redis.call('HLEN', KEYS[7])
if not task then
    return {0}
end
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local since, last, count = string.match(note or '', '^(%d+):(%d+):(%d+)$')
if not since or now - last > LONGEST + FORGOTTEN then
    since, last, count = now, 0, 0
end
local age = math.max(0, now - since)
if age >= tonumber(limit) then
    return {2, 0, age}
end
local pause = math.min(LONGEST, FIRST * 2 ^ math.min(count, 10))
if now - last >= pause / 4 then count = count + 1 end -- tasks of the same bytes, which come together, count once
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], lease)
free(own, lease, id, true)
if note or notes < MOST then
    redis.call('HSET', KEYS[7], digest, string.format('%.0f:%.0f:%d', since, now, count))
    redis.call('PEXPIRE', KEYS[7], KEEP)
else
    pause = LONGEST
end
if redis.call('TYPE', KEYS[8])['ok'] == 'hash' then redis.pcall('HINCRBYFLOAT', KEYS[8], 'tokens', 1) end
local due, waits = now + pause, (word == '1' and '' or ':' .. word) .. task
redis.call('ZADD', KEYS[5], due, id .. waits)
if (not first or due < tonumber(first)) and rings == 0 then redis.call('RPUSH', KEYS[6], '1') end
if tonumber(tracked) > 0 and has(own, 'hash') then
    record(own, 'deferred', cause, pause)
    redis.call('HSET', KEYS[own], 'state', 'scheduled', 'due', due, 'waits', cause, 'data', waits, 'place', KEYS[5])
    redis.call('PEXPIRE', KEYS[own], pause + tracked)
end
return {1, pause, age}
