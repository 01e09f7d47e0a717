-- Purpose: move one dead letter to the tail of its queue, as `data`, and let a tracked task wait again.
-- KEYS: queue, noti, dead, deferred, task, result, unique
-- ARGV: letter (its id in the stream), data (the task as it shall wait), id (of a tracked task, '' for others), tracked
--       (milliseconds that its state is kept), bound (milliseconds that it has its unique key again, or 0), enqueued (when the task
--       was, in milliseconds since 1970, or 0 if it does not say)
-- Returns: 1; 0 if the letter is not there any more; 2 if another task has the unique key: nothing has happened

-- Read before anything is written: if a key has a foreign type, nothing has happened.
for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
redis.call('LLEN', KEYS[6])
redis.call('HLEN', KEYS[4])
local letter = redis.call('XRANGE', KEYS[3], ARGV[1], ARGV[1])[1]
local known = redis.call('HEXISTS', KEYS[5], 'enqueued') == 1
local bound = tonumber(ARGV[5])
local owner = bound > 0 and redis.call('GET', KEYS[7])
if not letter then
    return 0
end
if owner and owner ~= ARGV[3] then
    return 2
end
redis.call('XDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], redis.sha1hex(ARGV[2]))
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[2], '1')
if ARGV[3] ~= '' then
    redis.call('HDEL', KEYS[5], 'error', 'progress', 'cancelled', 'waits', 'data', 'place')
    redis.call('HSET', KEYS[5], 'state', 'queued')
    if not known and ARGV[6] ~= '0' then redis.call('HSET', KEYS[5], 'enqueued', ARGV[6]) end
    if bound > 0 then redis.call('HSET', KEYS[5], 'unique', KEYS[7]) end
    redis.call('PEXPIRE', KEYS[5], ARGV[4])
    redis.call('DEL', KEYS[6])
end
if bound > 0 then
    redis.call('SET', KEYS[7], ARGV[3], 'PX', ARGV[5])
end
return 1
