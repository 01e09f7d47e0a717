-- Purpose: cancel members of a workflow that have been released: one that runs is told, another will not begin.
-- KEYS: marks, joins, outbox, state... (of each member: see section 7a)
-- ARGV: id, result (what those who wait are told), tracked (milliseconds that a state is kept), members... (of each two: its set and its
--       index)
-- Returns: how many will not begin

local id, result, tracked = ARGV[1], ARGV[2], ARGV[3]

local UNBEGUN = {queued = true, scheduled = true, retrying = true}

redis.call('GETRANGE', KEYS[1], 0, 0)
for i = 2, 3 do redis.call('LLEN', KEYS[i]) end
local count = 0
-- All keys have been read: writes begin here.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('LREM', KEYS[2], 0, '') -- first, as a removal: Redis then lets the rest happen though its memory is full
for i = 4, #KEYS do
    local set, index = ARGV[2 * i - 4], ARGV[2 * i - 3]
    local found = redis.call('TYPE', KEYS[i])['ok']
    local state = found == 'hash' and redis.call('HGET', KEYS[i], 'state')
    if redis.call('GETRANGE', KEYS[1], index, index) == 'q' then
        if state == 'running' then
            redis.call('HSETNX', KEYS[i], 'cancelled', '1')
        elseif found == 'none' or UNBEGUN[state] then
            redis.call('HSET', KEYS[i], 'state', 'cancelled', 'cancelled', '1', 'ended', now, 'result', result)
            redis.call('PEXPIRE', KEYS[i], tracked)
            if redis.call('RPUSH', KEYS[2], 'e' .. set .. ' ' .. index .. ' c') == 1 then redis.call('RPUSH', KEYS[3], id) end
            count = count + 1
        end
    end
end
return count
