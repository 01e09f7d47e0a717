-- Purpose: put tasks at the tail of a queue, each with its notification and with the next number of the queue as its last bytes.
-- KEYS: queue, noti, numbers
-- ARGV: task... (without its last eight bytes)
-- Returns: the number of the last one

local CHUNK = 4000 -- unpack() fails near 8,000 values

redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
local number = tonumber(redis.call('GET', KEYS[3]) or '0')
-- All keys have been read: writes begin here.
redis.call('INCRBY', KEYS[3], #ARGV)
for first = 1, #ARGV, CHUNK do
    local ones, stored = {}, {}
    for i = first, math.min(first + CHUNK - 1, #ARGV) do
        ones[#ones + 1] = '1'
        stored[#stored + 1] = ARGV[i] .. struct.pack('>I8', number + i)
    end
    redis.call('RPUSH', KEYS[2], unpack(ones))
    redis.call('RPUSH', KEYS[1], unpack(stored))
end
return number + #ARGV
