-- Purpose: let a member that runs add nodes to its workflow, beside itself: what waits for it waits for these, too. What is added under one
--          name by one member is added once, however often that is repeated.
-- KEYS: processing, flow, joins, outbox
-- ARGV: id, lease (of the member), name (under which this is noted, a field), first (index of the first of the nodes), fields (how many
--       names and values follow: a number is added to a field whose name begins with '+', and words to one whose name begins with
--       '>'), rest... (these; what is to be done first, for `flow_join`)
-- Returns: {1, first}; {2, first} as it was added before; {0} if the lease does not hold the member any more, or the workflow is being
--          stopped: nothing has happened

local id, lease, name, first, fields = unpack(ARGV, 1, 5)

if redis.call('HEXISTS', KEYS[1], lease) == 0 then
    return {0}
end
local before = redis.call('HGET', KEYS[2], name)
if before then
    return {2, before}
end
if redis.call('HGET', KEYS[2], 'state') ~= 'running' then
    return {0}
end
for i = 3, 4 do redis.call('LLEN', KEYS[i]) end
-- All keys have been read: writes begin here.
redis.call('HSET', KEYS[2], name, first)
for i = 6, 5 + fields, 2 do
    local how, field = string.sub(ARGV[i], 1, 1), string.sub(ARGV[i], 2)
    if how == '+' then
        redis.call('HINCRBY', KEYS[2], field, ARGV[i + 1])
    elseif how == '>' then
        redis.call('HSET', KEYS[2], field, (redis.call('HGET', KEYS[2], field) or '') .. ' ' .. ARGV[i + 1])
    else
        redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
    end
end
for i = 6 + fields, #ARGV do redis.call('RPUSH', KEYS[3], ARGV[i]) end
redis.call('RPUSH', KEYS[4], id)
return {1, first}
