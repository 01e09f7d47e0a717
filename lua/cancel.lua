-- Purpose: cancel a tracked task: a scheduled one is gone at once, a waiting one will not begin, a running one is told.
-- KEYS: scheduled, task, result, unique
-- ARGV: id, result (what those who wait are told), keep (milliseconds that this is kept), how (what a running one is told: '1', or
--       'hard' if its process shall end with it)
-- Returns: the state in which it was ('queued', 'scheduled', 'retrying', 'running', or one of those of tasks that have ended), or ''
--          if no such task is known

-- Read before anything is written: if a key has a foreign type, nothing has happened.
local state = redis.call('HGET', KEYS[2], 'state')
redis.call('ZCARD', KEYS[1])
redis.call('LLEN', KEYS[3])
local owner = redis.call('GET', KEYS[4])
if not state then
    return ''
end
if state == 'running' then
    if ARGV[4] == 'hard' then
        redis.call('HSET', KEYS[2], 'cancelled', ARGV[4])
    else
        redis.call('HSETNX', KEYS[2], 'cancelled', ARGV[4])
    end
elseif state == 'queued' or state == 'scheduled' or state == 'retrying' then
    local data = redis.call('HGET', KEYS[2], 'data')
    if data and redis.call('ZREM', KEYS[1], ARGV[1] .. data) == 1 then
        redis.call('HDEL', KEYS[2], 'data')
        redis.call('PEXPIRE', KEYS[2], ARGV[3]) -- nobody else will end it; one in the queue must stay known until it is taken
    end
    redis.call('HSET', KEYS[2], 'state', 'cancelled', 'cancelled', '1')
    if owner == ARGV[1] then
        redis.call('DEL', KEYS[4])
    end
    redis.call('DEL', KEYS[3])
    redis.call('RPUSH', KEYS[3], ARGV[2])
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return state
