-- Purpose: bring the notifications nearer to one for each waiting task, in either direction.
-- KEYS: queue, noti
-- ARGV: most (how many to add or remove in one call, at most 4000)
-- Returns: {added, removed, left}: call again while left is not 0

local missing = redis.call('LLEN', KEYS[1]) - redis.call('LLEN', KEYS[2])
local step = math.min(math.abs(missing), tonumber(ARGV[1]))
if step == 0 then
    return {0, 0, 0}
end
-- All keys have been read: writes begin here.
if missing < 0 then
    redis.call('LPOP', KEYS[2], step)
    return {0, step, -missing - step}
end
local ones = {}
for i = 1, step do
    ones[i] = '1'
end
redis.call('RPUSH', KEYS[2], unpack(ones))
return {step, 0, missing - step}
