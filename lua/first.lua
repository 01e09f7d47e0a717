-- Purpose: find the first queue that has waiting tasks.
-- KEYS: queue...
-- ARGV: none
-- Returns: its position, counted from 1, or 0 if all are empty

for i = 1, #KEYS do
    if redis.call('LLEN', KEYS[i]) > 0 then
        return i
    end
end
return 0
