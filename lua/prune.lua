-- Purpose: strike the workers whose lease is gone off the register.
-- KEYS: workers, lease...
-- ARGV: none
-- Returns: how many were struck off

local count = 0
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then
        count = count + redis.call('HDEL', KEYS[1], KEYS[i])
    end
end
return count
