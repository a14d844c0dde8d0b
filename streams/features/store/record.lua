-- Records, outside the slots, how far every slot has come with a topic. Marks only rise, so a late word does no harm.
--
-- KEYS  the low-water marks, the recorded marks of the slots
-- ARGV  number of partitions; per partition its number, the least low-water mark expected ('' for none), the one to set;
--       then pairs of field and offset for the second key
-- Reply 'recorded', or 'behind' when a low-water mark is lower than was left there: then nothing is written, for marks of
--       slots were lost with it, and with these what tells that a slot has lost writes.
-- A key of another type begins anew: less is then known than could be, which costs reading and loses nothing.

for i = 1, 2 do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind ~= 'hash' and kind ~= 'none' then
        redis.call('DEL', KEYS[i])
    end
end
local n_low = tonumber(ARGV[1])
for i = 2, 3 * n_low, 3 do
    local found = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '') or -1
    if ARGV[i + 1] ~= '' and found < tonumber(ARGV[i + 1]) then
        return 'behind'
    end
end
local function raise(key, field, mark)
    local found = tonumber(redis.call('HGET', key, field) or '')
    if not found or found < tonumber(mark) then
        redis.call('HSET', key, field, mark)
    end
end
for i = 2, 3 * n_low, 3 do
    raise(KEYS[1], ARGV[i], ARGV[i + 2])
end
for i = 2 + 3 * n_low, #ARGV, 2 do
    raise(KEYS[2], ARGV[i], ARGV[i + 1])
end
return 'recorded'
