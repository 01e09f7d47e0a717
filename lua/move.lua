-- Purpose: let a task that waits in the schedule wait for another time.
-- KEYS: scheduled, wake, task, unique (the key of its unique key; of a task without one, one that is not there)
-- ARGV: member (of the schedule), due (milliseconds since 1970), keep (milliseconds that the state of a tracked task is kept after
--       that)
-- Returns: 1, or 0 if it does not wait there any more

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

local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[2])
local state = redis.call('HGET', KEYS[3], 'state')
local owner = redis.call('GET', KEYS[4])
if not before then
    return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = tonumber(ARGV[2])
local left, bound = redis.call('PTTL', KEYS[3]), redis.call('PTTL', KEYS[4])
-- All keys have been read: writes begin here.
redis.call('ZREM', KEYS[1], ARGV[1]) -- first, as it frees memory: Redis then lets the rest happen though its memory is full
redis.call('ZADD', KEYS[1], due, ARGV[1])
if state then
    record(3, 'moved', '', due)
    redis.call('HSET', KEYS[3], 'due', ARGV[2])
    redis.call('PEXPIRE', KEYS[3], math.max(left, due - now + ARGV[3]))
end
if owner == string.sub(ARGV[1], 1, 16) and due > tonumber(before) then -- it has the key for as long after the new time
    redis.call('PEXPIRE', KEYS[4], bound + due - before)
end
if due < tonumber(first) and rings == 0 then
    redis.call('RPUSH', KEYS[2], '1')
end
return 1
