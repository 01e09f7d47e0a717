-- Purpose: list some field names of a hash, without sending the values, which may be large.
-- KEYS: hash (processing or workers)
-- ARGV: cursor (0 to begin), count (about how many)
-- Returns: {cursor of the next page (0 at the end), field...}

local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local reply = {found[1]}
for i = 1, #found[2], 2 do
    reply[#reply + 1] = found[2][i]
end
return reply
