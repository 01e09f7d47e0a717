-- Purpose: let groups take turns: fill the queue up from their lists, one task from each, as long as it is short.
-- KEYS: queue, noti, groups, group... (lists of the first groups in the rotation)
-- ARGV: most (waiting tasks from which on the queue is long enough), digest... (of each group: its name in the rotation)
-- Returns: how many tasks were moved

local MOST = 4000 -- tasks that one call moves: unpack() fails near 8,000 values

local want = math.min(MOST, ARGV[1] - redis.call('LLEN', KEYS[1]))
redis.call('LLEN', KEYS[2])
local turns, size = redis.call('LRANGE', KEYS[3], 0, #KEYS - 4), redis.call('LLEN', KEYS[3])
local known, left, shares = {}, {}, {}
for i = 2, #ARGV do
    local waiting = redis.pcall('LLEN', KEYS[i + 2])
    left[i] = type(waiting) == 'number' and waiting or 0 -- a key of a foreign type leaves the rotation: the others go on
    known[ARGV[i]], shares[i] = i, 0
end
-- Whose turn it is, task by task. A group that has more goes to the end, behind those that the caller does not know.
local last, at, order = #turns, 1, {}
while #order < want and known[turns[at]] and (at <= last or last == size) do
    local digest = turns[at]
    local i = known[digest]
    if left[i] > 0 then
        order[#order + 1], left[i], shares[i] = i, left[i] - 1, shares[i] + 1
        if left[i] > 0 then turns[#turns + 1] = digest end
    end
    at = at + 1
end
if at == 1 then
    return 0
end
-- All keys have been read: writes begin here.
redis.call('LTRIM', KEYS[3], math.min(at - 1, last), -1)
local tasks, ones, held = {}, {}, {}
for i = 2, #ARGV do
    tasks[i] = shares[i] > 0 and redis.call('LPOP', KEYS[i + 2], shares[i])
end
for n = #order, 1, -1 do -- the last of each group comes last
    ones[n], held[n] = '1', table.remove(tasks[order[n]])
end
if #held > 0 then
    redis.call('RPUSH', KEYS[1], unpack(held))
    redis.call('RPUSH', KEYS[2], unpack(ones))
end
ones = {unpack(turns, math.max(at, last + 1), #turns)} -- those that go to the end
if #ones > 0 then redis.call('RPUSH', KEYS[3], unpack(ones)) end
return #held
