-- Purpose: end leases by putting their tasks, untouched and in the order of the leases, back to the head of the queue.
-- KEYS: queue, noti, processing
-- ARGV: lease...
-- Returns: how many tasks went back; leases that hold none are passed over

-- Read before anything is written: if a key has a foreign type, nothing has happened.
for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
local count = 0
for i = #ARGV, 1, -1 do
    local task = redis.call('HGET', KEYS[3], ARGV[i])
    if task then
        redis.call('HDEL', KEYS[3], ARGV[i])
        redis.call('LPUSH', KEYS[1], task)
        redis.call('LPUSH', KEYS[2], '1')
        count = count + 1
    end
end
return count
