-- Writes entries of one slot once: the mark of their partition fences a worker that lost it.
--
-- KEYS  marks of their topic, then one key per entry; of attributes then `private` of the slot, and per entry the key that
--       says that its user was forgotten
-- ARGV  partition, the least mark expected ('' for none), the offset to set, then per entry its JSON, or '' to remove it.
--       Attributes that were told before their user was forgotten are not written.
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
local many = #ARGV - 3
local has_forgotten = #KEYS > 1 + many and redis.pcall('GET', KEYS[2 + many])
local function is_forgotten(i)
    local said = has_forgotten and redis.pcall('GET', KEYS[1 + many + i])
    local since = tonumber(type(said) == 'string' and string.match(said, '^%d+') or -1)
    return tonumber(string.match(ARGV[i + 2], '^{"@(%d+)":null') or 0) <= since
end
for i = 2, 1 + many do
    if ARGV[i + 2] == '' then
        redis.call('DEL', KEYS[i])
    elseif not is_forgotten(i) then
        redis.call('SET', KEYS[i], ARGV[i + 2])
    end
end
return reply
