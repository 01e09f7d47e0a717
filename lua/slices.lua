-- Purpose: read waiting tasks from the heads of lists and sorted sets, one key after the other, until there are enough.
-- KEYS: key...
-- ARGV: most (tasks), bytes (likewise, about), start (how many tasks of the first key are passed by), kind... (of each key: list or zset)
-- Returns: {1 if there may be more, else 0, tasks of each key up to the last that was read (with their scores)...}

local PAGE = 50
local most, bytes, start = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local reply, count, size = {0}, 0, 0
for i = 1, #KEYS do
    local found, wanted, got, step = {}, 0, 0, ARGV[i + 3] == 'list' and 1 or 2
    repeat
        wanted = math.min(PAGE, most - count)
        local page
        if step == 1 then
            page = redis.call('LRANGE', KEYS[i], start, start + wanted - 1)
        else
            page = redis.call('ZRANGE', KEYS[i], start, start + wanted - 1, 'WITHSCORES')
        end
        for j = 1, #page do
            found[#found + 1] = page[j]
            size = size + #page[j]
        end
        got = #page / step
        count, start = count + got, start + got
    until got < wanted or count >= most or size >= bytes
    reply[#reply + 1] = found
    if count >= most or size >= bytes then
        reply[1] = 1
        break
    end
    start = 0
end
return reply
