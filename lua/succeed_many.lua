-- Purpose: end leases because their tasks succeeded, which hold nothing: none is tracked, or has a unique or a concurrency key.
-- KEYS: processing, lost, lease...
-- ARGV: none
-- Returns: for each lease 1, or 0 if it does not hold a task any more (the caller was superseded)

local CHUNK = 4000 -- unpack() fails near 8,000 values

local tasks = {}
for first = 3, #KEYS, CHUNK do
    local some = redis.call('HMGET', KEYS[1], unpack(KEYS, first, math.min(first + CHUNK - 1, #KEYS)))
    for i = 1, #some do
        tasks[#tasks + 1] = some[i]
    end
end
local losses = redis.call('HLEN', KEYS[2])
-- All keys have been read: writes begin here.
local ended = {}
for i = 1, #tasks do
    -- A lease that is named twice ends once.
    ended[i] = tasks[i] and redis.call('HDEL', KEYS[1], KEYS[i + 2]) or 0
    if ended[i] == 1 then
        redis.call('DEL', KEYS[i + 2])
        if losses > 0 then redis.call('HDEL', KEYS[2], redis.sha1hex(tasks[i])) end
    end
end
return ended
