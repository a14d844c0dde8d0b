-- Writes a batch of catalogue entries once: the mark of their partition fences a worker that lost it.
--
-- KEYS  marks of the items topic, then one key per entry
-- ARGV  partition, the offset to set, then per entry its JSON, or '' to remove it
-- Reply 1 if written, 0 if the mark was there already, -1 if written over a mark that was none.

local mark = redis.pcall('HGET', KEYS[1], ARGV[1])
local reply = 1
if type(mark) == 'table' then
    redis.call('DEL', KEYS[1])
    reply = -1
elseif mark and not tonumber(mark) then
    reply = -1
elseif mark and tonumber(mark) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
for i = 2, #KEYS do
    if ARGV[i + 1] == '' then
        redis.call('DEL', KEYS[i])
    else
        redis.call('SET', KEYS[i], ARGV[i + 1])
    end
end
return reply
