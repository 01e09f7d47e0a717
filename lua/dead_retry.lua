-- Purpose: move dead letters, as they came, to the tail of their queue.
-- KEYS: queue, noti, dead
-- ARGV: id...
-- Returns: how many were moved; ids that are not there are passed over

local count = 0
for i = 1, #ARGV do
    local entry = redis.call('XRANGE', KEYS[3], ARGV[i], ARGV[i])[1]
    if entry then
        redis.call('XDEL', KEYS[3], ARGV[i])
        redis.call('RPUSH', KEYS[1], entry[2][2])
        redis.call('RPUSH', KEYS[2], '1')
        count = count + 1
    end
end
return count
