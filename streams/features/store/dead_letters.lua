-- Counts dead letters by reason, each once.
--
-- KEYS  counts by reason, newest counted position by source
-- ARGV  per dead letter: reason, source ('topic/partition'), offset, index
-- Reply how many were new. A source's letters are given in order, so one at or below its mark was counted before.
-- The streams worker gives a letter's own position on dead-letters. A crash between sending a letter and writing the
-- features leaves two of it in the topic, and both count: the tally says how many letters the topic has had.
-- A key that holds something else begins anew: it is a tally, and no worker may end over it.

local counted = 0
for i = 1, #KEYS do
    local kind = redis.call('TYPE', KEYS[i]).ok
    if kind ~= 'hash' and kind ~= 'none' then
        redis.call('DEL', KEYS[i])
    end
end
for i = 1, #ARGV, 4 do
    local offset, index = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    local mark = redis.call('HGET', KEYS[2], ARGV[i + 1])
    local is_new = true
    if mark then
        local marked_offset, marked_index = string.match(mark, '^(%d+):(%d+)$')
        marked_offset, marked_index = tonumber(marked_offset or -1), tonumber(marked_index or -1)
        is_new = offset > marked_offset or (offset == marked_offset and index > marked_index)
    end
    if is_new then
        local before = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+$')
        redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', (tonumber(before) or 0) + 1))
        redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[i + 2] .. ':' .. ARGV[i + 3])
        counted = counted + 1
    end
end
return counted
