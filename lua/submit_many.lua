-- Purpose: put tasks at the tail of a queue and of groups, tracked ones each with its state, all or none of them.
-- KEYS: noti, groups, key... (the lists: the queue's, groups'; then the states of tracked tasks, and one more for a request that may
--       be said again)
-- ARGV: tracked (milliseconds that states are kept), lists (how many there are), task... (in the order of the lists; before them,
--       for each list, the word that announces its tasks: '1', or the digest of the group; and how many it gets)
-- Returns: the digests of groups that had no tasks: it may be their turn now; or 0 if one of the tasks, or the request, is known
--          already: nothing has happened

local CHUNK = 4000 -- unpack() fails near 8,000 values

local tracked, lists = ARGV[1], tonumber(ARGV[2])
local state = 3 + lists -- the first key of a state
local first, notes = {}, 0
for i = 1, lists do
    local word, others = ARGV[1 + 2 * i], redis.call('LLEN', KEYS[2 + i])
    if word == '1' then
        notes = tonumber(ARGV[2 + 2 * i])
    elseif others == 0 then
        first[#first + 1] = word
    end
end
if notes > 0 then redis.call('LLEN', KEYS[1]) end
if #first > 0 then redis.call('LLEN', KEYS[2]) end
local known = 0
for from = state, #KEYS, CHUNK do
    known = known + redis.call('EXISTS', unpack(KEYS, from, math.min(from + CHUNK - 1, #KEYS)))
end
if known > 0 then
    for i = state, #KEYS do -- if one has a foreign type, that is an error
        redis.call('HLEN', KEYS[i])
    end
end
local left = known > 0 and redis.call('PTTL', KEYS[#KEYS])
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)) -- once, not for each task
-- All keys have been read: writes begin here.
if left then -- what is known is written once more, unchanged, as in submit.lua
    if left > 0 then redis.call('PEXPIRE', KEYS[#KEYS], left) end
    return 0
end
for from = 1, #first, CHUNK do
    redis.call('RPUSH', KEYS[2], unpack(first, from, math.min(from + CHUNK - 1, #first)))
end
local ones = {}
for i = 1, math.min(notes, CHUNK) do
    ones[i] = '1'
end
for from = 1, notes, CHUNK do
    redis.call('RPUSH', KEYS[1], unpack(ones, 1, math.min(CHUNK, notes - from + 1)))
end
local at = 3 + 2 * lists
for i = 1, lists do
    local beyond = at + ARGV[2 + 2 * i]
    for from = at, beyond - 1, CHUNK do
        redis.call('RPUSH', KEYS[2 + i], unpack(ARGV, from, math.min(from + CHUNK, beyond) - 1))
    end
    at = beyond
end
local copies = false -- of the first: half of what the two commands cost; who may not do that, or has an id twice, does without
for i = state, #KEYS do
    copies = copies and redis.pcall('COPY', KEYS[state], KEYS[i]) == 1
    if not copies then
        redis.call('HSET', KEYS[i], 'state', 'queued', 'enqueued', now)
        redis.call('PEXPIRE', KEYS[i], tracked)
    end
    copies = copies or i == state
end
return first
