-- Purpose: note who got tasks that are known by their numbers, and who had got them before.
-- KEYS: number... (of each task)
-- ARGV: keep (milliseconds), most (that have lost a task and are remembered), connection, address, token... (of each task its lease's)
-- Returns: how many tasks they are

local keep, most, connection, address = unpack(ARGV, 1, 4)
local notes = {}
for i = 1, #KEYS do
    local known, note = pcall(cmsgpack.unpack, redis.pcall('GET', KEYS[i]))
    local earlier = {}
    if known and type(note) == 'table' and type(note[4]) == 'table' then
        earlier = note[4]
        earlier[#earlier + 1] = note[2]
        while #earlier > tonumber(most) do
            table.remove(earlier, 1)
        end
    end
    notes[i] = cmsgpack.pack({ARGV[i + 4], connection, address, earlier})
end
-- All keys have been read: writes begin here.
for i = 1, #KEYS do
    redis.call('SET', KEYS[i], notes[i], 'PX', keep)
end
return #KEYS
