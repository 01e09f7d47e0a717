-- Purpose: put tasks at the tail of a queue, each with its notification.
-- KEYS: queue, noti
-- ARGV: task...
-- Returns: the length of the queue

local CHUNK = 4000 -- unpack() fails near 8,000 values

local waiting = redis.call('LLEN', KEYS[1])
-- All keys have been read: writes begin here.
for first = 1, #ARGV, CHUNK do
    local last = math.min(first + CHUNK - 1, #ARGV)
    local ones = {}
    for i = 1, last - first + 1 do
        ones[i] = '1'
    end
    -- The notifications first: if a key has a foreign type, no task has been added.
    redis.call('RPUSH', KEYS[2], unpack(ones))
    redis.call('RPUSH', KEYS[1], unpack(ARGV, first, last))
end
return waiting + #ARGV
