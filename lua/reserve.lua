-- Purpose: take the next free instant of a rate key: tasks with this key begin no more often than that.
-- KEYS: pace
-- ARGV: interval (microseconds between two instants), earliest (milliseconds since 1970, or 0 for now)
-- Returns: the instant, in milliseconds since 1970, by the server's clock

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local free = tonumber(redis.call('GET', KEYS[1])) or 0 -- what another program has written there is no instant
local at = math.max(now, ARGV[2] * 1000)
if free > at and free - now < 31536000000000 then -- a year: more is nonsense, and would keep the key's tasks for ever
    at = free
end
-- All keys have been read: writes begin here.
local following = at + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', following), 'PX', math.ceil((following - now) / 1000) + 1000)
return math.floor(at / 1000)
