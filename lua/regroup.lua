-- Purpose: move tasks that are due, and have a group, from the schedule to the lists of their groups.
-- KEYS: queue, noti, scheduled, groups, group... (lists)
-- ARGV: most (how many members of the schedule to look at), digest... (of each group: its name in the rotation)
-- Returns: {tasks moved, digest... (of groups with tasks that are due and were not moved, as the caller does not name them)}

local ID, MARK, DIGEST = 16, 58, 40 -- before the task: 16 characters, a colon, and 40 characters

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, ARGV[1])
redis.call('LLEN', KEYS[1])
redis.call('LLEN', KEYS[2])
redis.call('LLEN', KEYS[4])
local lists, ours, reply = {}, {}, {0}
for i = 5, #KEYS do
    local found = redis.call('TYPE', KEYS[i])['ok']
    ours[i] = found == 'list' or found == 'none' -- else its tasks go to the queue itself
end
for i = 2, #ARGV do
    lists[ARGV[i]] = i + 3
end
-- All keys have been read: writes begin here.
for _, member in ipairs(members) do
    local digest = string.byte(member, ID + 1) == MARK and string.sub(member, ID + 2, ID + 1 + DIGEST)
    local place = digest and lists[digest]
    if place then
        redis.call('ZREM', KEYS[3], member)
        if ours[place] and redis.call('LLEN', KEYS[place]) == 0 then
            redis.call('RPUSH', KEYS[4], digest)
        end
        redis.call('RPUSH', KEYS[ours[place] and place or 1], string.sub(member, ID + 2 + DIGEST))
        if not ours[place] then
            redis.call('RPUSH', KEYS[2], '1')
        end
        reply[1] = reply[1] + 1
    elseif digest and lists[digest] == nil then
        reply[#reply + 1] = digest
        lists[digest] = false
    end
end
return reply
