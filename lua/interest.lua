-- Purpose: note in what a queue has an interest, or forget it.
-- KEYS: interests
-- ARGV: queue, record (MessagePack; empty: forget it), token (that nobody has used), most (queues that may have one)
-- Returns: 1; or if nothing has happened 0, as it had none, or -1, as too many have one

local queue, record = ARGV[1], ARGV[2]
local known = redis.call('HGET', KEYS[1], queue)
local version = redis.call('HGET', KEYS[1], '')
local count = redis.call('HLEN', KEYS[1]) - (version and 1 or 0)
if record == '' and not known then
    return 0
end
if record ~= '' and not known and count >= tonumber(ARGV[4]) then
    return -1
end
local changes = (tonumber(string.match(version or '', '^%d+')) or 0) + 1
-- All keys have been read: writes begin here.
if record == '' then
    redis.call('HDEL', KEYS[1], queue)
end
redis.call('HSET', KEYS[1], '', string.format('%.0f', changes) .. ' ' .. ARGV[3])
if record ~= '' then
    -- Its place among the others is that of its first one.
    local place = string.match(known or '', '^%d+') or string.format('%.0f', changes)
    redis.call('HSET', KEYS[1], queue, place .. ' ' .. record)
end
return 1
