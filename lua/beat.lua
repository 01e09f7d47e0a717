-- Purpose: say that a process lives and what it does, and learn what operators want of the queue.
-- KEYS: own (the process's own lease), workers, control, groups, deferred
-- ARGV: holder (its token), ttl (of its lease, in milliseconds), about (what it says of itself)
-- Returns: {1 if groups have waiting tasks, plus 2 if tasks are noted that could not run somewhere; the fields of the control hash and
--          their values in turn}

-- With full memory both are refused. Leases and limits matter, the register does not.
redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.pcall('HSET', KEYS[2], KEYS[1], ARGV[3])
local reply = redis.call('HGETALL', KEYS[3])
table.insert(reply, 1, redis.call('EXISTS', KEYS[4]) + 2 * redis.call('EXISTS', KEYS[5]))
return reply
