-- Purpose: do a part of what stands at the head of a workflow's `joins` and is too much for one call, or not for a script to know:
--          tasks go into the list of their set, or into a queue, and what is left to do takes its place at the head.
-- KEYS: joins, outbox, flow, bodies (the list of the set, or flow for none), queue, noti (or flow, twice, if nothing is enqueued)
-- ARGV: id, head (as the caller saw it), rest (what stands there from now on; '' for nothing), from, count (which tasks of the list are
--       enqueued: the first, counted from 0, and how many), fields (how many names and values follow: a number is added to a field
--       whose name begins with '+'), more... (these; tasks, for the list or, if there is none, for the queue; if there is neither,
--       what else is to be done, for `flow_join`)
-- Returns: 1, or 0 if something else stands at the head, as somebody else has done this: nothing has happened

local id, head, rest, from, count, fields = unpack(ARGV, 1, 6)

local CHUNK = 4000 -- unpack() fails near 8,000 values

if redis.call('LINDEX', KEYS[1], 0) ~= head then
    return 0
end
redis.call('LLEN', KEYS[2])
redis.call('HLEN', KEYS[3])
local has_list, to_queue = KEYS[4] ~= KEYS[3], KEYS[5] ~= KEYS[3]
if has_list then redis.call('LLEN', KEYS[4]) end
if to_queue then
    for i = 5, 6 do redis.call('LLEN', KEYS[i]) end
end
local tasks, given = {}, {}
if tonumber(count) > 0 then tasks = redis.call('LRANGE', KEYS[4], from, from + count - 1) end
for i = 7 + fields, #ARGV do given[#given + 1] = ARGV[i] end
if not has_list then tasks = given end
-- All keys have been read: writes begin here.
local function push(key, values)
    for at = 1, #values, CHUNK do redis.call('RPUSH', KEYS[key], unpack(values, at, math.min(at + CHUNK - 1, #values))) end
end
redis.call('LPOP', KEYS[1])
if rest ~= '' then redis.call('LPUSH', KEYS[1], rest) end
for i = 7, 6 + fields, 2 do
    if string.sub(ARGV[i], 1, 1) == '+' then
        redis.call('HINCRBY', KEYS[3], string.sub(ARGV[i], 2), ARGV[i + 1])
    else
        redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
    end
end
if has_list then push(4, given) elseif not to_queue then push(1, given) end
if to_queue then
    local ones = {}
    for i = 1, #tasks do ones[i] = '1' end
    push(5, tasks)
    push(6, ones)
end
if redis.call('LLEN', KEYS[1]) == 0 then redis.call('LREM', KEYS[2], 0, id) end
return 1
