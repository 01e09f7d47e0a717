-- Purpose: end the leases of tracked tasks that have succeeded and hold nothing but their state: what `conclude` does for most tasks.
-- KEYS: processing, task...
-- ARGV: ended (when, in milliseconds since 1970), about... (for each task three: its lease, its result, which is what those
--       who wait are told, and keep, the milliseconds that this is kept)
-- Returns: how many of them there were; a lease that does not hold a task any more (the caller was superseded) changes nothing

-- All keys have been read: writes begin here.
local ended = 0
for i = 2, #KEYS do
    local at = #ARGV - 3 * (#KEYS - i) - 2
    if redis.call('HDEL', KEYS[1], ARGV[at]) == 1 then
        ended = ended + 1
        -- A key of another program's is left alone: the lease has ended.
        local stored = redis.pcall('HSET', KEYS[i], 'state', 'succeeded', 'ended', ARGV[1], 'result', ARGV[at + 1])
        if type(stored) == 'number' then redis.call('PEXPIRE', KEYS[i], ARGV[at + 2]) end
    end
end
return ended
