-- Purpose: let groups take turns: fill the queue up from their lists, one task from each, as long as it is short.
-- KEYS: queue, noti, groups, group... (lists of the first groups in the rotation)
-- ARGV: most (waiting tasks from which on the queue is long enough), digest... (of each group: its name in the rotation)
-- Returns: how many tasks were moved

local waiting = redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
redis.call('LLEN', KEYS[3])
local lists, ours = {}, {}
for i = 4, #KEYS do
    local found = redis.call('TYPE', KEYS[i])['ok']
    ours[i] = found == 'list' or found == 'none' -- a group whose key has a foreign type leaves the rotation: the others go on
end
for i = 2, #ARGV do
    lists[ARGV[i]] = i + 2
end
-- All keys have been read: writes begin here.
local moved = 0
while waiting + moved < tonumber(ARGV[1]) do
    local digest = redis.call('LINDEX', KEYS[3], 0)
    local place = digest and lists[digest]
    if not place then
        break -- all that the caller knows of have had their turn
    end
    redis.call('LPOP', KEYS[3])
    local task = ours[place] and redis.call('LPOP', KEYS[place])
    if task then
        redis.call('RPUSH', KEYS[1], task)
        redis.call('RPUSH', KEYS[2], '1')
        moved = moved + 1
    end
    if ours[place] and redis.call('LLEN', KEYS[place]) > 0 then
        redis.call('RPUSH', KEYS[3], digest)
    end
end
return moved
