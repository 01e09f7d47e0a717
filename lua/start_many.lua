-- Purpose: begin tasks that are tracked and hold nothing but their state: what `start` does for one.
-- KEYS: processing, task...
-- ARGV: worker (who begins), now (milliseconds since 1970), tracked (milliseconds that a state is kept), about... (for each task two:
--       its lease, and which attempt this is, counted from 1)
-- Returns: for each task 1; 0 if its lease does not hold a task any more; 2 if it has been cancelled; -1 if its key is another
--          program's, so that it is for `start` to say so

local reply, waited = {}, {}
for i = 4, #ARGV, 2 do
    local at = i / 2
    if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 0 then
        reply[at - 1] = 0
    else
        local found = redis.pcall('HMGET', KEYS[at], 'cancelled', 'data')
        reply[at - 1] = found.err and -1 or found[1] and 2 or 1
        waited[at] = found[2]
    end
end
-- All keys have been read: writes begin here.
redis.call('HDEL', KEYS[1], '') -- first, as a removal: Redis then lets the rest happen though its memory is full
for i = 2, #KEYS do
    if waited[i] then redis.call('HDEL', KEYS[i], 'data', 'waits', 'place') end
    if reply[i - 1] == 1 then
        local new = redis.call('HSET', KEYS[i], 'state', 'running', 'worker', ARGV[1], 'started', ARGV[2], 'attempt', ARGV[2 * i + 1])
        if new == 4 then redis.call('PEXPIRE', KEYS[i], ARGV[3]) end -- it had run out
    end
end
return reply
