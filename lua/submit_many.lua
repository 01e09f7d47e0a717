-- Purpose: put tracked tasks at the tail of a queue or of a group, each with its state, all or none of them.
-- KEYS: queue (or a group's list), noti (or groups), task...
-- ARGV: word (what announces them: '1', once for each, or the digest of their group, once), tracked (milliseconds that a state is
--       kept), task...
-- Returns: 1; 2 if the group had no tasks: it may be its turn now; 0 if one of the tasks is known already: nothing has happened

local CHUNK = 4000 -- unpack() fails near 8,000 values

local word, tracked = ARGV[1], ARGV[2]
local others = redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
local known = 0
for i = 3, #KEYS do
    known = known + redis.call('HLEN', KEYS[i])
end
if known > 0 then
    return 0
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- All keys have been read: writes begin here.
for first = 3, #ARGV, CHUNK do
    local last = math.min(first + CHUNK - 1, #ARGV)
    local ones = {}
    for i = 1, word == '1' and last - first + 1 or first == 3 and others == 0 and 1 or 0 do
        ones[i] = word
    end
    if #ones > 0 then redis.call('RPUSH', KEYS[2], unpack(ones)) end
    redis.call('RPUSH', KEYS[1], unpack(ARGV, first, last))
end
for i = 3, #KEYS do
    redis.call('HSET', KEYS[i], 'state', 'queued', 'enqueued', now)
    redis.call('PEXPIRE', KEYS[i], tracked)
end
return word ~= '1' and others == 0 and 2 or 1
