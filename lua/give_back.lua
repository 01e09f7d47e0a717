-- Purpose: end leases by putting their tasks, untouched and in the order of the leases, back to the head of the queue. What they held
--          is free, and so are the tokens of those that had not begun.
-- KEYS: processing, queue, noti, waited, bucket, own... (for each lease whose task holds something its five keys, the unique one
--       only if the task has it while it runs: section 7d)
-- ARGV: begun (of how many leases, from the first, the tasks had begun), lease... (each followed by the id of its task, by '-' if
--       that is not tracked, or by '' if it holds nothing and has no keys here)
-- Returns: how many tasks went back; leases that hold none are passed over

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

for i = 2, 3 do
    redis.call('LLEN', KEYS[i])
end
redis.call('HLEN', KEYS[1])
redis.call('HLEN', KEYS[4])
local count, tokens, own = 0, 0, #KEYS + 1
-- All keys have been read: writes begin here.
for i = (#ARGV - 1) / 2, 1, -1 do
    local lease, id = ARGV[2 * i], ARGV[2 * i + 1]
    local task = redis.call('HGET', KEYS[1], lease)
    own = id ~= '' and own - 5 or own
    if task then
        redis.call('HDEL', KEYS[1], lease)
        if id ~= '' then
            free(own, lease, id)
            if has(own, 'hash') and redis.call('HGET', KEYS[own], 'state') == 'running' then
                record(own, 'given_back', '', 0, true)
                redis.call('HSET', KEYS[own], 'state', 'queued')
            end
        end
        redis.call('LPUSH', KEYS[2], task)
        redis.call('LPUSH', KEYS[3], '1')
        count, tokens = count + 1, tokens + (i > tonumber(ARGV[1]) and 1 or 0)
    end
end
-- What is no number, or more than a burst, is put right by the next take.
if tokens > 0 and redis.call('TYPE', KEYS[5])['ok'] == 'hash' then
    redis.pcall('HINCRBYFLOAT', KEYS[5], 'tokens', tokens)
end
return count
