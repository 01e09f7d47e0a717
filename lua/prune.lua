-- Purpose: strike the workers whose lease is gone off the register.
-- KEYS: workers, lease...
-- ARGV: none
-- Returns: how many were struck off

local gone, count = {}, 0
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then
        gone[#gone + 1] = KEYS[i]
    end
end
-- All keys have been read: writes begin here.
for _, lease in ipairs(gone) do
    count = count + redis.call('HDEL', KEYS[1], lease)
end
return count
