-- Purpose: add what a worker has counted since it did so last to the statistics of a queue.
-- KEYS: total, minutes, hours, days
-- ARGV: minute (the fields of the three rows), hour, day, today (days since 1970), chance (above 0, at most 1: drawn by the caller),
--       delta... (a function's path, and its counts in MessagePack: field and amount in turn; the first path is '', with the sum of all)
-- Returns: 1 (a function for which there was no place is in the sum alone)

local minute, hour, day, today, chance = unpack(ARGV, 1, 5)
today, chance = tonumber(today), tonumber(chance)
local FUNCTIONS, IDLE = 200, 30 -- functions that are told apart, and days after which an idle one makes room for another
local LOOK = 0.02 -- how often that is looked for
local LAST, LAST_OF_ALL = {7, 21, 21}, {8, 35, 35} -- of each tier: the last field that is kept of a function, and of the sum
local BYTES, KEPT = {30, 164, 164}, {180000, 1299600, 37238400} -- of a row, beyond which it has the sum alone; seconds of a key

local function read(text) -- an array of numbers; what is none has nothing in it
    local fine, list = pcall(cmsgpack.unpack, text or '\144')
    return fine and type(list) == 'table' and list or {}
end
local function add(counts, list, first, last) -- pairs of field and amount
    for i = first, last - 1, 2 do
        local field, amount = list[i], list[i + 1]
        if type(field) == 'number' and type(amount) == 'number' then counts[field] = (counts[field] or 0) + amount end
    end
    return counts
end
local function put(list, counts, last) -- the opposite, up to this field
    for field = 1, last do if counts[field] then list[#list + 1], list[#list + 2] = field, counts[field] end end
    return list
end
local function size(counts, last) -- in bytes, as a part of a row
    local bytes = 3
    for field = 1, last do
        local n = counts[field]
        bytes = bytes + (not n and 0 or n < 128 and 2 or n < 256 and 3 or n < 65536 and 4 or n < 2 ^ 32 and 6 or 10)
    end
    return bytes
end

local names = {}
for i = 6, #ARGV, 2 do names[#names + 1] = ARGV[i] end
local known, count = redis.call('HMGET', KEYS[1], unpack(names)), redis.call('HLEN', KEYS[1])
local rows = {redis.call('HGET', KEYS[2], minute), redis.call('HGET', KEYS[3], hour), redis.call('HGET', KEYS[4], day)}
local there = {}
for tier = 1, 3 do there[tier] = rows[tier] and 1 or redis.call('EXISTS', KEYS[tier + 1]) end
local gone, deltas, total = {}, {}, {}
local following = read(known[1])[1] or 1
local function make_room()
    local all = chance <= LOOK and redis.call('HGETALL', KEYS[1]) or {}
    for i = 1, #all, 2 do
        if all[i] ~= '' and (read(all[i + 1])[2] or 0) < today - IDLE then gone[#gone + 1], count = all[i], count - 1 end
    end
    chance = math.max(chance, LOOK + 0.01) -- once
end
for i, path in ipairs(names) do
    local entry = known[i] and read(known[i])
    if not entry and count > FUNCTIONS then make_room() end
    if not entry and (count <= FUNCTIONS or path == '') then
        entry, count, following = {following}, count + 1, following + (path == '' and 0 or 1)
    end
    if entry then
        local delta = read(ARGV[5 + 2 * i])
        deltas[#deltas + 1] = {path == '' and 0 or entry[1], delta}
        total[i] = put({entry[1], today}, add(add({}, entry, 3, #entry), delta, 1, #delta), 35)
    end
end
if total[1] then total[1][1] = following end

for tier = 1, 3 do
    local list, at, found, order, row, bytes = read(rows[tier]), 1, {}, {}, {}, 0
    while type(list[at + 1]) == 'number' do
        found[list[at]], order[#order + 1] = add({}, list, at + 2, at + 1 + list[at + 1]), {list[at]}
        at = at + 2 + list[at + 1]
    end
    for _, each in ipairs(deltas) do
        if not found[each[1]] then found[each[1]], order[#order + 1] = {}, {each[1], true} end
        add(found[each[1]], each[2], 1, #each[2])
    end
    for _, each in ipairs(order) do
        local counts, weight = found[each[1]], each[1] == 0 and math.huge or 0
        for field = 1, LAST[1] do weight = weight + (counts[field] or 0) end
        each[3] = weight / (each[2] and chance or 1)
    end
    table.sort(order, function(a, b) return a[3] > b[3] or a[3] == b[3] and a[1] < b[1] end)
    for _, each in ipairs(order) do -- the sum, then the busiest; a new one is taken for busy in proportion to its counts
        local last = each[1] == 0 and LAST_OF_ALL[tier] or LAST[tier]
        bytes = bytes + size(found[each[1]], last)
        if each[1] > 0 and bytes > BYTES[tier] then break end
        local start = #row + 2
        row[start - 1], row[start] = each[1], 0
        row[start] = #put(row, found[each[1]], last) - start
    end
    rows[tier] = cmsgpack.pack(row)
end
-- All keys have been read: writes begin here.
for _, path in ipairs(gone) do redis.call('HDEL', KEYS[1], path) end
for i, list in pairs(total) do redis.call('HSET', KEYS[1], names[i], cmsgpack.pack(list)) end
redis.call('HSET', KEYS[2], minute, rows[1])
redis.call('HSET', KEYS[3], hour, rows[2])
redis.call('HSET', KEYS[4], day, rows[3])
for tier = 1, 3 do if there[tier] == 0 then redis.call('EXPIRE', KEYS[tier + 1], KEPT[tier]) end end
return 1
