-- Purpose: end a lease because its task succeeded. For a task without a lost count this is HDEL processing lease,
--          and that is what a worker sends.
-- KEYS: processing, lost
-- ARGV: lease
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

-- Read before anything is written: if a key has a foreign type, nothing has happened.
redis.call('HLEN', KEYS[2])
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], redis.sha1hex(task))
return 1
