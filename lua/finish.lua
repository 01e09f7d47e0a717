-- Purpose: end the lease of a tracked task that has succeeded and holds nothing but its state: what `conclude` does for most tasks.
-- KEYS: processing, task
-- ARGV: lease, result (what those who wait are told), keep (milliseconds that this is kept), worker (who ends it)
-- Returns: 1, or 0 if the lease does not hold a task any more (the caller was superseded)

-- All keys have been read: writes begin here.
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then
    return 0
end
-- A key of another program's is left alone: the lease has ended.
local stored = redis.pcall('HSET', KEYS[2], 'state', 'succeeded', 'worker', ARGV[4], 'result', ARGV[2])
if type(stored) == 'number' then redis.call('PEXPIRE', KEYS[2], ARGV[3]) end
return 1
