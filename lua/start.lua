-- Purpose: say that a tracked task begins, unless it may not.
-- KEYS: processing, task, unique
-- ARGV: lease, id (of the task), key (what becomes of the unique key: 'take', 'free', or 'leave'), bound (milliseconds that it stays
--       taken), worker (who begins), now (milliseconds since 1970), tracked (milliseconds that its state is kept), attempt
-- Returns: 1; 0 if the lease does not hold a task any more; 2 if the task has been cancelled; 3 if another task has the key

if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then
    return 0
end
if redis.call('HEXISTS', KEYS[2], 'cancelled') == 1 then
    return 2
end
local owner = redis.call('GET', KEYS[3])
if ARGV[3] == 'take' then
    if owner and owner ~= ARGV[2] then
        return 3
    end
end
redis.call('HDEL', KEYS[2], 'data', 'waits') -- first, as it frees memory: Redis then lets the rest happen though its memory is full
if ARGV[3] == 'take' then
    redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[4])
elseif ARGV[3] == 'free' and owner == ARGV[2] then
    redis.call('DEL', KEYS[3])
end
redis.call('HSET', KEYS[2], 'state', 'running', 'worker', ARGV[5], 'started', ARGV[6], 'attempt', ARGV[8])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
return 1
