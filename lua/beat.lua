-- Purpose: say that a process lives and what it does, and learn what operators want of the queue.
-- KEYS: own (the process's own lease), workers, control, groups, deferred
-- ARGV: holder (its token), ttl (of its lease, in milliseconds), about (what it says of itself)
-- Returns: {1 if groups have waiting tasks, plus 2 if tasks are noted that could not run somewhere; the fields of the control hash and
--          their values in turn}

local reply = redis.pcall('HGETALL', KEYS[3])
local noted = redis.call('EXISTS', KEYS[4]) + 2 * redis.call('EXISTS', KEYS[5])
-- All keys have been read: writes begin here.
-- With full memory both are refused. Leases and limits matter, the register does not.
redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.pcall('HSET', KEYS[2], KEYS[1], ARGV[3])
if not reply['err'] then table.insert(reply, 1, noted) end -- if the control hash has a foreign type, the caller lives all the same
return reply
