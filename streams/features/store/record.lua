-- Records, outside the slots, how far every slot has come with a topic. Marks only rise, so a late word does no harm.
--
-- KEYS  the low-water marks, the recorded marks of the slots
-- ARGV  number of pairs for the first key, then pairs of field and offset, for the first key and then for the second
-- A key of another type begins anew: less is then known than could be, which costs reading and loses nothing.

for i = 1, 2 do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind ~= 'hash' and kind ~= 'none' then
        redis.call('DEL', KEYS[i])
    end
end
local n_low = tonumber(ARGV[1])
for i = 2, #ARGV, 2 do
    local key = i < 2 + 2 * n_low and KEYS[1] or KEYS[2]
    local found = tonumber(redis.call('HGET', key, ARGV[i]) or '')
    if not found or found < tonumber(ARGV[i + 1]) then
        redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    end
end
return 1
