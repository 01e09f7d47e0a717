-- Purpose: move one dead letter to the tail of its queue, as `data`, and let a tracked task wait again.
-- KEYS: queue, noti, dead, deferred, task, unique
-- ARGV: letter (its id in the stream), data (the task as it shall wait), id (of a tracked task, '' for others), tracked
--       (milliseconds that its state is kept), bound (milliseconds that it has its unique key again, or 0), enqueued (when the task
--       was, in milliseconds since 1970, or 0 if it does not say)
-- Returns: 1; 0 if the letter is not there any more; 2 if another task has the unique key: nothing has happened

local letter, data, id, tracked, bound, enqueued = unpack(ARGV, 1, 6)

for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
redis.call('HLEN', KEYS[4])
local entry = redis.call('XRANGE', KEYS[3], letter, letter)[1]
local known = redis.call('HEXISTS', KEYS[5], 'enqueued') == 1
local takes = tonumber(bound) > 0
local owner = takes and redis.call('GET', KEYS[6])
if not entry then
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
    redis.call('HDEL', KEYS[5], 'error', 'result', 'progress', 'cancelled', 'waits', 'data', 'place')
    redis.call('HSET', KEYS[5], 'state', 'queued')
    if not known and enqueued ~= '0' then redis.call('HSET', KEYS[5], 'enqueued', enqueued) end
    if takes then redis.call('HSET', KEYS[5], 'unique', KEYS[6]) end
    redis.call('PEXPIRE', KEYS[5], tracked)
end
if takes then
    redis.call('SET', KEYS[6], id, 'PX', bound)
end
return 1
