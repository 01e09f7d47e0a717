-- Purpose: move one dead letter to the tail of its queue, as `data`, and let a tracked task wait again.
-- KEYS: queue, noti, dead, deferred, task, unique, told... (of a member of a workflow its joins and the outbox: section 7e)
-- ARGV: letter (its id in the stream), data (the task as it shall wait), id (of a tracked task, '' for others), tracked
--       (milliseconds that its state is kept), bound (milliseconds that it has its unique key again, or 0), enqueued (when the task
--       was, in milliseconds since 1970, or 0 if it does not say), entry (what its workflow is told, or '')
-- Returns: 1; 0 if the letter is not there any more; 2 if another task has the unique key: nothing has happened

local letter, data, id, tracked, bound, enqueued, entry = unpack(ARGV, 1, 7)

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

for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
redis.call('HLEN', KEYS[4])
local found = redis.call('XRANGE', KEYS[3], letter, letter)[1]
local known = redis.call('HEXISTS', KEYS[5], 'enqueued') == 1
local failed = redis.call('HMGET', KEYS[5], 'error', 'ended')
local takes = tonumber(bound) > 0
local owner = takes and redis.call('GET', KEYS[6])
if not found then
    return 0
end
if owner and owner ~= id then
    return 2
end
-- All keys have been read: writes begin here.
redis.call('XDEL', KEYS[3], letter)
redis.call('HDEL', KEYS[4], redis.sha1hex(data))
redis.call('RPUSH', KEYS[1], data)
redis.call('RPUSH', KEYS[2], '1')
if id ~= '' then
    if known then record(5, 'revived', failed[1] or '', failed[2], true) end
    redis.call('HDEL', KEYS[5], 'error', 'result', 'progress', 'cancelled', 'waits', 'data', 'place', 'ended')
    redis.call('HSET', KEYS[5], 'state', 'queued')
    if not known and enqueued ~= '0' then redis.call('HSET', KEYS[5], 'enqueued', enqueued) end
    if takes then redis.call('HSET', KEYS[5], 'unique', KEYS[6]) end
    redis.call('PEXPIRE', KEYS[5], tracked)
end
if takes then
    redis.call('SET', KEYS[6], id, 'PX', bound)
end
if entry ~= '' and #KEYS > 6 then tell(7, entry) end
return 1
