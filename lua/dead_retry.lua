-- Purpose: move dead letters, as they came, to the tail of their queue.
-- KEYS: queue, noti, dead, deferred
-- ARGV: id...
-- Returns: how many were moved; ids that are not there, and entries without a task, are passed over

for i = 1, 2 do
    redis.call('LLEN', KEYS[i])
end
redis.call('XLEN', KEYS[3])
redis.call('HLEN', KEYS[4])
-- All keys have been read: writes begin here.
local count = 0
for i = 1, #ARGV do
    local entry = redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i])[1]
    local task
    for field = 1, entry and #entry[2] or 0, 2 do
        if entry[2][field] == 'task' then
            task = entry[2][field + 1]
        end
    end
    if task and redis.call('XDEL', KEYS[3], entry[1]) == 1 then
        redis.call('HDEL', KEYS[4], redis.sha1hex(task))
        redis.call('RPUSH', KEYS[1], task)
        redis.call('RPUSH', KEYS[2], '1')
        count = count + 1
    end
end
return count
