-- Purpose: end a lease by moving its task, as it came, to the dead letters.
-- KEYS: processing, lost, dead
-- ARGV: lease, reason (one word), detail (a sentence or a traceback), worker (who buried it)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

-- Read before anything is written: if a key has a foreign type, nothing has happened.
redis.call('HLEN', KEYS[2])
redis.call('XLEN', KEYS[3])
local task = redis.call('HGET', KEYS[1], ARGV[1])
if not task then
    return 0
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], redis.sha1hex(task))
redis.call('XADD', KEYS[3], '*', 'task', task, 'reason', ARGV[2], 'detail', ARGV[3], 'worker', ARGV[4])
return 1
