-- Purpose: find the leases whose key has no TTL, and would live for ever; give them one if asked.
-- KEYS: lease...
-- ARGV: ttl (in milliseconds, for the keys that have none; 0 to look only)
-- Returns: the positions, counted from 1, of those that had none

local found = {}
for i = 1, #KEYS do
    if redis.call('PTTL', KEYS[i]) == -1 then
        found[#found + 1] = i
    end
end
-- All keys have been read: writes begin here.
if tonumber(ARGV[1]) > 0 then
    for _, i in ipairs(found) do
        redis.call('PEXPIRE', KEYS[i], ARGV[1])
    end
end
return found
