-- Writes entries of one slot once: the mark of their partition fences a worker that lost it.
--
-- KEYS  marks of their topic, then one key per entry
-- ARGV  partition, the least mark expected ('' for none), the offset to set, then per entry its JSON, or '' to remove it
-- Reply 1 if written, 0 if the mark was there already, 2 if written over a mark that was none, -1 when the slot has less
--       than was left there: then nothing was written.

local mark = redis.pcall('HGET', KEYS[1], ARGV[1])
local reply = 1
if type(mark) == 'table' then
    redis.call('DEL', KEYS[1])
    reply = 2
elseif mark and not tonumber(mark) then
    reply = 2
elseif ARGV[2] ~= '' and tonumber(mark or -1) < tonumber(ARGV[2]) then
    return -1
elseif mark and tonumber(mark) >= tonumber(ARGV[3]) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
for i = 2, #KEYS do
    if ARGV[i + 2] == '' then
        redis.call('DEL', KEYS[i])
    else
        redis.call('SET', KEYS[i], ARGV[i + 2])
    end
end
return reply
