-- Purpose: end a lease by putting its task, with one retry less, at the tail of the queue.
-- KEYS: queue, noti, processing, lost
-- ARGV: lease, task (as it shall wait in the queue)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
redis.call('HLEN', KEYS[4])
local task = redis.call('HGET', KEYS[3], ARGV[1])
if not task then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], redis.sha1hex(task))
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('RPUSH', KEYS[2], '1')
return 1
