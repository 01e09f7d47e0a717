-- Purpose: carry what has happened in a workflow (its `joins`) into its counts: what has become possible is enqueued, what never will be
--          is skipped, and after the last the workflow has ended. It may be said at any time, by anybody, and again.
-- KEYS: flow, marks, joins, outbox, ids, due, run, wake, pair... (queue and noti of each queue of the workflow, in its order)
-- ARGV: id (of the workflow), most (entries and steps that one call deals with)
-- Returns: {entry}: the one at the head that is for the caller to do (a release, an expansion, a cancel in pages), 'more' if there are
--          others for this script, or '' if all is done

local id, most = ARGV[1], tonumber(ARGV[2])

local DIRECT = 100 -- tasks of a set up to which they are enqueued here
local FINAL = {s = 'succeeded', f = 'failed', x = 'expired', c = 'cancelled', k = 'skipped'}
local OPEN = {running = true, failing = true, cancelling = true}
local SPAN = 1000 -- nodes between the first and the last of those whose ends are dealt with together
local NEVER = 9007199254740991
local records, deltas, touched, steps = {}, {}, {}, 0
local state, policy, keep, clock, now
local stops = false -- an edge says so

local function set(j) -- nodes with the same predecessors and successors: see docs/protocol.md, section 7e
    if records[j] == nil then
        local text = redis.call('HGET', KEYS[1], 's' .. j) or ''
        local first, size, queue, kind, flags, outs = string.match(text, '^(%d+) (%d+) (%d+) (%a) (%S+) (%S+)$')
        local found = first and {first = tonumber(first), size = tonumber(size), queue = tonumber(queue), kind = kind, flags = flags}
        if found then
            found.outs = {}
            for g in string.gmatch(outs, '%d+') do found.outs[#found.outs + 1] = g end
        end
        records[j] = found or false
    end
    return records[j]
end
local function add(field, n) deltas[field] = (deltas[field] or 0) + n end
local function settle(field) -- its value, with what has been added in this call
    local n = deltas[field] or 0
    deltas[field] = nil
    return n ~= 0 and redis.call('HINCRBY', KEYS[1], field, string.format('%d', n)) or tonumber(redis.call('HGET', KEYS[1], field) or 0)
end
local function touch(g)
    if not touched[g] then
        touched[g] = true
        touched[#touched + 1] = g
    end
end
local function later(entry) -- the next thing to do: see `steps`
    if redis.call('LPUSH', KEYS[3], entry) == 1 then redis.call('RPUSH', KEYS[4], id) end
end
local function mark_of(s) return redis.call('GETRANGE', KEYS[2], s.first, s.first) end
local function waits(s) return string.find(mark_of(s), '^%z?$') ~= nil end
local function paint(s, mark) redis.call('SETRANGE', KEYS[2], s.first, string.rep(mark, s.size)) end
local function count(s, n, mark) -- n members have ended so; a negative number: they have not, after all
    if s.kind == 'c' then return end
    add('left', -n)
    if mark ~= 's' then add(FINAL[mark], n) end
    if mark ~= 's' and mark ~= 'k' and not string.find(s.flags, 'h', 1, true) then add('failures', n) end
    for _, g in ipairs(s.outs) do
        add((mark == 's' and 'o' or 'b') .. g, n)
        if mark == 'k' then add('k' .. g, n) end
        touch(g)
    end
end
local function ended(s, index, mark, result)
    if index < s.first or index >= s.first + s.size then return end
    if FINAL[redis.call('GETRANGE', KEYS[2], index, index)] then return end -- it has been said before
    redis.call('SETRANGE', KEYS[2], index, mark)
    if result ~= '' then redis.call('HSET', KEYS[1], 'r' .. index, result) end
    count(s, 1, mark)
end
local function all_ended(entries, from, to) -- the same for many nodes beside each other, as a group has them: returns the next
    local match, byte = string.match, string.byte
    local head, j = match(entries[from], '^(e(%d+) )')
    local s, last = j and set(j), from - 1
    local low, high, said, results = math.huge, -1, {}, {}
    if not s then return from + 1 end
    local pattern, first, past = '^' .. head .. '(%d+) (%a) ?()', s.first, s.first + s.size
    for i = from, to do
        local index, mark, at = match(entries[i], pattern)
        index = tonumber(index)
        if not index or not FINAL[mark] then break end
        local lowest, highest = index < low and index or low, index > high and index or high
        if highest - lowest > SPAN then break end
        last = i
        if index >= first and index < past and not said[index] then
            low, high, said[index] = lowest, highest, mark
            if at <= #entries[i] then results[#results + 1] = {index, string.sub(entries[i], at)} end
        end
    end
    if high < 0 then return math.max(last, from) + 1 end
    local marks, tally, stored = {byte(redis.call('GETRANGE', KEYS[2], low, high), 1, -1)}, {}, {}
    for i = #marks + 1, high - low + 1 do marks[i] = 0 end
    for index, mark in pairs(said) do
        if FINAL[string.char(marks[index - low + 1])] then -- it has been said before
            said[index] = nil
        else
            marks[index - low + 1], tally[mark] = byte(mark), (tally[mark] or 0) + 1
        end
    end
    redis.call('SETRANGE', KEYS[2], low, string.char(unpack(marks)))
    for _, pair in ipairs(results) do
        if said[pair[1]] then stored[#stored + 1], stored[#stored + 2] = 'r' .. pair[1], pair[2] end
    end
    if #stored > 0 then redis.call('HSET', KEYS[1], unpack(stored)) end
    for mark, n in pairs(tally) do count(s, n, mark) end
    return last + 1
end
local function drop(j, mark) -- it waits, and will not be released
    local s = set(j)
    if s and redis.call('HINCRBY', KEYS[1], 'x' .. j, 1) == 1 and waits(s) then
        paint(s, mark)
        count(s, s.size, mark)
    end
end
local function undrop(j) -- one thing less keeps it from being released
    local s = set(j)
    if s and redis.call('HINCRBY', KEYS[1], 'x' .. j, -1) == 0 and mark_of(s) == 'k' then
        paint(s, '\0')
        count(s, -s.size, 'k')
    end
end
local function await(j, s) -- a signal, or for some time
    local timeout, name = string.match(redis.call('HGET', KEYS[1], 'y' .. j) or '0 ', '^(%d+) (.*)$')
    local signal = name ~= '' and redis.call('HGET', KEYS[1], '!' .. name)
    if signal then return ended(s, s.first, 's', signal) end
    if name ~= '' then redis.call('HSET', KEYS[1], '?' .. name, (redis.call('HGET', KEYS[1], '?' .. name) or '') .. ' ' .. j) end
    if tonumber(timeout) > 0 then
        redis.call('ZADD', KEYS[6], now + timeout, id .. ' ' .. j)
        local first = redis.call('ZRANGE', KEYS[6], 0, 0)[1] == id .. ' ' .. j
        if first and redis.call('LLEN', KEYS[8]) == 0 then redis.call('RPUSH', KEYS[8], '1') end
    end
end
local function release(j)
    local s = set(j)
    if not s or s.size > 0 and not waits(s) then return end
    if state ~= 'running' and s.kind ~= 'c' then return drop(j, 'c') end
    if s.size == 0 then -- an empty group has ended
        for _, g in ipairs(s.outs) do touch(g) end
        return
    end
    paint(s, 'q')
    if s.kind == 'w' then return await(j, s) end
    local queue = KEYS[7 + 2 * s.queue]
    if s.kind == 'm' or s.size > DIRECT or not queue or string.find(s.flags, '[pb]') then
        return redis.call('RPUSH', KEYS[3], (s.kind == 'm' and 'M' or 'R') .. j .. ' 0')
    end
    local names, ones = {}, {}
    for i = 1, s.size do names[i], ones[i] = 't' .. (s.first + i - 1), '1' end
    redis.call('RPUSH', KEYS[7 + 2 * s.queue], unpack(redis.call('HMGET', KEYS[1], unpack(names))))
    redis.call('RPUSH', KEYS[8 + 2 * s.queue], unpack(ones))
end
local function unmade(maps) -- whether it is not known yet how many nodes one of these has
    for j in string.gmatch(maps, '%d+') do
        local s = set(j)
        if s and s.kind == 'm' and not FINAL[mark_of(s)] then return true end
    end
    return false
end
local function enough(g, maps, good, bad, all, need, mode) -- of a quorum
    local open = unmade(maps)
    if mode ~= 'q' and not open then need = math.min(need, all) end
    if good >= need then return 's' end
    if open or bad <= all - need then return nil end
    if mode == 'q' then return bad > settle('k' .. g) and 'd' or 'k' end -- what was skipped has not failed
    return (mode == 'p' or settle('failed') + settle('expired') + settle('cancelled') > 0) and 'd' or 'k'
end
local function fails(mode, decided) return decided == 'd' and (mode == 'q' or mode == 'z') end -- the whole
local function judge(g)
    touched[g] = nil
    local record, all, before = unpack(redis.call('HMGET', KEYS[1], 'g' .. g, 'n' .. g, 'd' .. g))
    local mode, need, targets, maps = string.match(record or '', '^(%a) (%d+) (%S+) ?(%S*)$')
    local good, bad, after = settle('o' .. g), settle('b' .. g), nil
    all = tonumber(all or 0)
    if mode == 'a' or mode == 'x' then after = bad > 0 and 'd' or good == all and 's'
    elseif mode == 'e' then after = good + bad == all and 's'
    elseif mode == 'n' then
        local skipped = settle('k' .. g)
        after = bad - skipped >= tonumber(need) and 's' or good + skipped > all - need and 'd'
    elseif mode then after = enough(g, maps, good, bad, all, tonumber(need), mode)
    end
    if not mode or before == 's' or (before or false) == (after or false) then return end
    if before then -- a member that had failed runs again
        redis.call('HDEL', KEYS[1], 'd' .. g)
        if fails(mode, before) then add('failures', -1) end
        for j in string.gmatch(targets, '%d+') do undrop(j) end
    end
    if after then
        redis.call('HSET', KEYS[1], 'd' .. g, after)
        if fails(mode, after) then add('failures', 1) end
        stops = stops or mode == 'x' and after == 'd'
        for j in string.gmatch(targets, '%d+') do
            if after ~= 's' then
                drop(j, 'k')
            elseif redis.call('HINCRBY', KEYS[1], 'w' .. j, -1) == 0 then
                release(j)
            end
            steps = steps + 1
        end
    end
end
local function reopen(s, index) -- it had failed, and has been enqueued again
    if s.kind == 'c' or index < s.first or index >= s.first + s.size then return end -- callbacks are no part of the whole
    local mark = redis.call('GETRANGE', KEYS[2], index, index)
    if not FINAL[mark] or mark == 's' then return end
    redis.call('SETRANGE', KEYS[2], index, 'q')
    redis.call('HDEL', KEYS[1], 'r' .. index)
    count(s, -1, mark)
    if not OPEN[state] then
        state = 'running'
        redis.call('HSET', KEYS[1], 'state', state)
        redis.call('HDEL', KEYS[1], 'ended')
        redis.call('HDEL', KEYS[7], 'result', 'error', 'ended')
        redis.call('HSET', KEYS[7], 'state', 'running')
        redis.call('ZADD', KEYS[5], NEVER, id)
        for i = 1, 2 do redis.call('PERSIST', KEYS[i]) end
        redis.call('PERSIST', KEYS[7])
    end
end
local function packed(text) -- a string in MessagePack
    local size = #text
    return (size < 32 and string.char(160 + size) or size < 256 and string.char(217, size)
        or string.char(218, math.floor(size / 256) % 256, size % 256)) .. text
end
local function stop(to) -- nothing more is released; what runs is told, in pages
    if state == 'running' then
        state = to
        redis.call('HSET', KEYS[1], 'state', state)
        redis.call('RPUSH', KEYS[3], 'C0 0')
    end
end
local function close(failures)
    failures = state == 'failing' and math.max(failures, 1) or failures -- an edge says so, though another provides for that
    local bad = failures .. (failures == 1 and ' node has failed' or ' nodes have failed')
    state = state == 'cancelling' and 'cancelled' or failures > 0 and 'failed' or 'succeeded'
    local out = redis.call('HGET', KEYS[1], 'out')
    local result = state == 'cancelled' and '\145' .. packed(state)
        or state == 'failed' and '\148' .. packed(state) .. packed('workflow') .. packed(bad) .. packed('')
        or out and redis.call('HGET', KEYS[1], 'r' .. out) or '\145' .. packed(state)
    redis.call('HSET', KEYS[1], 'state', state, 'ended', now)
    redis.call('HSET', KEYS[7], 'state', state, 'ended', now, 'result', result)
    if state == 'failed' then redis.call('HSET', KEYS[7], 'error', 'workflow: ' .. bad) end
    redis.call('ZADD', KEYS[5], now + keep, id)
    for i = 1, 2 do redis.call('PEXPIRE', KEYS[i], keep + 604800000) end
    redis.call('PEXPIRE', KEYS[7], keep)
end
local function call_back(name)
    local j = redis.call('HGET', KEYS[1], 'on_' .. name)
    if j then release(j) end
end
local function in_pages(entry) -- whether it is for the caller
    return string.find(entry, '^R%d+ %d+ ?%d*$') or string.find(entry, '^M%d+ %d+$') or string.find(entry, '^M%d+ %d+ %d+ %d+$')
        or string.find(entry, '^C%d+ %d+$')
end
local function take(entry) -- whether it is for this script
    local kind, j, rest = string.match(entry, '^(%a)(%d*) ?(.*)$')
    local s = kind and j ~= '' and set(j)
    if in_pages(entry) then return false end
    if kind == 'o' and s then reopen(s, tonumber(rest) or -1)
    elseif kind == 'i' then
        release(j)
        for _, g in ipairs(s and s.outs or {}) do touch(g) end -- of a map it is known now how many nodes there are
    elseif kind == 'k' then drop(j, 'c')
    elseif kind == 'j' then touch(j)
    elseif kind == 'X' then stop('cancelling')
    elseif kind == 'T' and s and s.kind == 'w' and redis.call('GETRANGE', KEYS[2], s.first, s.first) == 'q' then
        local name = string.match(redis.call('HGET', KEYS[1], 'y' .. j) or '', '^%d+ (.*)$')
        local late = '\148' .. packed('failed') .. packed('timed-out') .. packed('no signal ' .. (name or '') .. ' in time') .. packed('')
        ended(s, s.first, name == '' and 's' or 'f', name == '' and '' or late)
    elseif kind == 'G' then
        local payload = redis.call('HGET', KEYS[1], '!' .. string.sub(entry, 2)) or ''
        for each in string.gmatch(redis.call('HGET', KEYS[1], '?' .. string.sub(entry, 2)) or '', '%d+') do
            if set(each) and mark_of(set(each)) == 'q' then ended(set(each), set(each).first, 's', payload) end -- it may wait anew
            redis.call('ZREM', KEYS[6], id .. ' ' .. each)
        end
    end
    return true
end

state, policy, keep = unpack(redis.call('HMGET', KEYS[1], 'state', 'policy', 'keep'))
keep = tonumber(keep or 0)
redis.call('GETRANGE', KEYS[2], 0, 0)
for i = 3, 4 do redis.call('LLEN', KEYS[i]) end
for i = 5, 6 do redis.call('ZCARD', KEYS[i]) end
redis.call('HLEN', KEYS[7])
for i = 8, #KEYS do redis.call('LLEN', KEYS[i]) end
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- All keys have been read: writes begin here.
if not state or state == 'building' then -- it is gone, or not there yet
    if not state then redis.call('DEL', KEYS[3]) end
    redis.call('LREM', KEYS[4], 0, id)
    return {''}
end
local entries, i = redis.call('LPOP', KEYS[3], most) or {}, 1
while i <= #entries do
    if string.byte(entries[i]) == 101 then
        i = all_ended(entries, i, #entries)
    elseif take(entries[i]) then
        i = i + 1
    else
        break
    end
end
for left = #entries, i, -1 do redis.call('LPUSH', KEYS[3], entries[left]) end
while #touched > 0 do
    local g = table.remove(touched)
    if steps < most then judge(g) else later('j' .. g) end
end
local failures, left = settle('failures'), settle('left')
if failures > 0 or stops then
    if state == 'running' or state == 'failing' then call_back('failure') end -- who cancels it knows
    stops = stops or policy == 'stop_now'
end
if stops then stop('failing') end
if left == 0 and OPEN[state] then
    close(failures)
    call_back('complete')
    if state == 'succeeded' then call_back('success') end
end
for field, n in pairs(deltas) do redis.call('HINCRBY', KEYS[1], field, string.format('%d', n)) end
local head = redis.call('LINDEX', KEYS[3], 0)
if not head then redis.call('LREM', KEYS[4], 0, id) end
return {head and (in_pages(head) and head or 'more') or ''}
