-- Purpose: move tasks that are due from the schedule to the tail of their queue, and find the first queue with waiting tasks.
-- KEYS: key... (for each queue: queue, noti, scheduled)
-- ARGV: most (how many tasks to move in one call), groups ('leave': their tasks stay, for `regroup`; else they go to the queue)
-- Returns: {position of the first queue with waiting tasks, counted from 1, or 0; tasks moved; milliseconds until the next
--          task is due, 0 if more are due now, -1 if none is scheduled; position of the first queue where tasks of groups
--          stayed, or 0}

local ID, MARK, GROUP = 16, 58, 41 -- before the task: 16 characters; if it has a group, then a colon and 40 characters

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local moved, position, pause, stayed = 0, 0, -1, 0
for i = 1, #KEYS, 3 do -- of each queue all keys are read before one is written
    local waiting = redis.call('LLEN', KEYS[i])
    redis.call('LLEN', KEYS[i + 1])
    local members = redis.call('ZRANGEBYSCORE', KEYS[i + 2], '-inf', now, 'LIMIT', 0, ARGV[1] - moved)
    -- All keys have been read: writes begin here.
    for _, member in ipairs(members) do
        local grouped = string.byte(member, ID + 1) == MARK
        if grouped and ARGV[2] == 'leave' then
            stayed = stayed > 0 and stayed or (i + 2) / 3
        else
            redis.call('ZREM', KEYS[i + 2], member)
            redis.call('RPUSH', KEYS[i], string.sub(member, ID + 1 + (grouped and GROUP or 0)))
            redis.call('RPUSH', KEYS[i + 1], '1')
            moved, waiting = moved + 1, waiting + 1
        end
    end
    local next = redis.call('ZRANGE', KEYS[i + 2], 0, 0, 'WITHSCORES')[2]
    if next then
        local rest = math.max(0, next - now)
        pause = pause < 0 and rest or math.min(pause, rest)
    end
    if position == 0 and waiting > 0 then
        position = (i + 2) / 3
    end
end
return {position, moved, pause, stayed}
