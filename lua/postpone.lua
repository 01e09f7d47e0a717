-- Purpose: end a lease by letting its task wait again, as `data`, from now or for some time. What it held while it ran is free.
-- KEYS: processing, queue, noti, waited, lost, scheduled, wake, tail (the queue, or a group's list), announce (noti, or groups),
--       own... (the five keys of the task, the unique one only if the task has it while it runs: section 7d)
-- ARGV: lease, data (the task as it shall wait), id (16 characters: of a tracked task, or of no meaning), delay (milliseconds, or
--       0), tracked (milliseconds that its state is kept beyond that, or 0 for a task without one), error (what the attempt said),
--       word (what announces it, as for `submit`)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

local lease, data, id, delay, tracked, error, word = unpack(ARGV, 1, 7)

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

local first = redis.call('ZRANGE', KEYS[6], 0, 0, 'WITHSCORES')[2]
local rings, own = redis.call('LLEN', KEYS[7]), #KEYS - 4
for i = 2, 3 do
    redis.call('LLEN', KEYS[i])
    redis.call('HLEN', KEYS[i + 2])
end
redis.call('LLEN', KEYS[9])
-- A list of the group's own that has a foreign type is left alone, as the lease has to end: the task goes by the schedule, from
-- which it comes to the queue.
local listless = word ~= '1' and not has(8, 'list')
local others = not listless and redis.call('LLEN', KEYS[8])
local task = redis.call('HGET', KEYS[1], lease)
if not task then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], lease)
redis.call('HDEL', KEYS[5], redis.sha1hex(task))
free(own, lease, id, true)
local clock = redis.call('TIME')
local due = clock[1] * 1000 + math.floor(clock[2] / 1000) + delay
local waits = (word == '1' and '' or ':' .. word) .. data -- in the schedule, with what says whose group's it is
if tonumber(delay) > 0 or listless then
    redis.call('ZADD', KEYS[6], due, id .. waits)
    if (not first or due < tonumber(first)) and rings == 0 then redis.call('RPUSH', KEYS[7], '1') end
else
    redis.call('RPUSH', KEYS[8], data)
    if word == '1' or others == 0 then redis.call('RPUSH', KEYS[9], word) end
end
if tonumber(tracked) > 0 and has(own, 'hash') then
    record(own, 'retried', error, delay, true)
    redis.call('HSET', KEYS[own], 'state', 'retrying', 'due', due, 'error', error, 'data', waits, 'place', KEYS[6])
    redis.call('PEXPIRE', KEYS[own], delay + tracked)
end
return 1
