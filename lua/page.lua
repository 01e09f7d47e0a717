-- Purpose: list some field names of a hash, without sending the values, which may be large.
-- KEYS: hash (processing or workers)
-- ARGV: cursor (0 to begin), count (about how many)
-- Returns: {cursor of the next page (0 at the end), field...}

local SMALL = 512 -- fields; so many come at once, as their names can be had without reading the values

if ARGV[1] == '0' and redis.call('HLEN', KEYS[1]) <= SMALL then
    local names = redis.call('HKEYS', KEYS[1])
    table.insert(names, 1, '0')
    return names
end
local reply = redis.pcall('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2], 'NOVALUES') -- since Redis 7.4 and Valkey 8
local step = 1
if reply['err'] then
    reply, step = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2]), 2
end
local page = {reply[1]}
for i = 1, #reply[2], step do
    page[#page + 1] = reply[2][i]
end
return page
