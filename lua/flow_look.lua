-- Purpose: find what is to be done for the workflows of a queue: what stands in the outbox, whose time is over, which are forgotten.
-- KEYS: outbox, due, ids
-- ARGV: most (of each, in one call)
-- Returns: {milliseconds until the next is due, -1 if none is; how many of these stand in the outbox, are due, and are forgotten; and
--          then these, in this order}

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
local waiting = redis.call('LRANGE', KEYS[1], 0, ARGV[1] - 1)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[1])
local forgotten = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])
local reply = {next and math.max(0, next - now) or -1, #waiting, #due, #forgotten}
for _, some in ipairs({waiting, due, forgotten}) do
    for i = 1, #some do reply[#reply + 1] = some[i] end
end
return reply
