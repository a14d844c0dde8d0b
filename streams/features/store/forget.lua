-- Remembers of ids of one slot that they were forgotten, by their digests, and takes away what other topics told of them.
--
-- KEYS  `private` of the slot, then one key per erasure, then keys to take away
-- ARGV  how many erasures; per erasure 'time partition offset'. Of two the later one stays: any order, and one that comes
--       again, give the same. Of two of one time it is the one whose place in the log is earlier.
-- Reply how many keys were taken away.

local many = tonumber(ARGV[1])
if many > 0 then
    redis.call('SET', KEYS[1], '1')
end
for i = 1, many do
    local known = redis.pcall('GET', KEYS[1 + i])
    local time, at = string.match(type(known) == 'string' and known or '', '^(%d+) %-?%d+ (%-?%d+)$')
    local new_time, new_at = string.match(ARGV[1 + i], '^(%d+) %-?%d+ (%-?%d+)$')
    time, new_time = tonumber(time or -1), tonumber(new_time)
    if time < new_time or time == new_time and tonumber(at) > tonumber(new_at) then
        redis.call('SET', KEYS[1 + i], ARGV[1 + i])
    end
end
local gone = 0
for i = 2 + many, #KEYS do
    gone = gone + redis.call('DEL', KEYS[i])
end
return gone
