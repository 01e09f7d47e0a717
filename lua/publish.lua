-- Purpose: put copies of what is published at the tail of the queues that have an interest in it, all or none of them.
-- KEYS: interests, key... (of each queue, followed by that of its notifications)
-- ARGV: version (of the interests, as the caller knows them; empty: there are none), task... (one for each queue)
-- Returns: 1; or, if the interests have another version, their fields and values in turn: nothing has happened

if (redis.call('HGET', KEYS[1], '') or '') ~= ARGV[1] then
    return redis.call('HGETALL', KEYS[1])
end
for i = 2, #KEYS do
    redis.call('LLEN', KEYS[i])
end
-- All keys have been read: writes begin here.
for i = 2, #KEYS, 2 do
    redis.call('RPUSH', KEYS[i + 1], '1')
    redis.call('RPUSH', KEYS[i], ARGV[i / 2 + 1])
end
return 1
