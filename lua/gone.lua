-- Purpose: tell which of some leases are dead, and how large what they hold is, without reading it.
-- KEYS: processing, lease...
-- ARGV: none
-- Returns: for each lease the bytes of the task that it holds, 0 if it holds none, or -1 if it lives

local sizes = {}
for i = 2, #KEYS do
    sizes[i - 1] = redis.call('EXISTS', KEYS[i]) == 1 and -1 or redis.call('HSTRLEN', KEYS[1], KEYS[i])
end
return sizes
