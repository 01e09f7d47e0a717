-- Purpose: let a task that waits in the schedule wait for another time.
-- KEYS: scheduled, wake, task, unique (the key of its unique key; of a task without one, one that is not there)
-- ARGV: member (of the schedule), due (milliseconds since 1970), keep (milliseconds that the state of a tracked task is kept after
--       that)
-- Returns: 1, or 0 if it does not wait there any more

local before = redis.call('ZSCORE', KEYS[1], ARGV[1])
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local rings = redis.call('LLEN', KEYS[2])
local state = redis.call('HGET', KEYS[3], 'state')
local owner = redis.call('GET', KEYS[4])
if not before then
    return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local due = tonumber(ARGV[2])
-- All keys have been read: writes begin here.
redis.call('ZREM', KEYS[1], ARGV[1]) -- first, as it frees memory: Redis then lets the rest happen though its memory is full
redis.call('ZADD', KEYS[1], due, ARGV[1])
if state then
    redis.call('HSET', KEYS[3], 'due', ARGV[2])
    redis.call('PEXPIRE', KEYS[3], math.max(redis.call('PTTL', KEYS[3]), due - now + ARGV[3]))
end
if owner == string.sub(ARGV[1], 1, 16) and due > tonumber(before) then -- it has the key for as long after the new time
    redis.call('PEXPIRE', KEYS[4], redis.call('PTTL', KEYS[4]) + due - before)
end
if due < tonumber(first) and rings == 0 then
    redis.call('RPUSH', KEYS[2], '1')
end
return 1
