-- Purpose: put tasks at the tail of a group's list.
-- KEYS: group, groups
-- ARGV: digest (of the group: its name in the rotation), task...
-- Returns: 1 if the group had none before, so that it may be its turn now, or else 0

local CHUNK = 4000 -- unpack() fails near 8,000 values

local others = redis.call('LLEN', KEYS[1])
-- All keys have been read: writes begin here.
if others == 0 then -- the rotation first: if that has a foreign type, no task has been added
    redis.call('RPUSH', KEYS[2], ARGV[1])
end
for first = 2, #ARGV, CHUNK do
    local last = math.min(first + CHUNK - 1, #ARGV)
    redis.call('RPUSH', KEYS[1], unpack(ARGV, first, last))
end
return others == 0 and 1 or 0
