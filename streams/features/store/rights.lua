-- Which commands this user may not run, asked before a script takes a refusal for a damaged key.
-- KEYS[1]: a key that nothing else uses; it is gone afterwards. ARGV[1]: 'write' asks for those that write, too.
local key = KEYS[1]
local asked = {
    {'GET', key}, {'MGET', key}, {'GETRANGE', key, 0, 0}, {'TYPE', key}, {'EXISTS', key}, {'HGET', key, 'f'},
    {'HMGET', key, 'f'}, {'HGETALL', key}, {'ZREVRANGE', key, 0, 0}, {'ZSCORE', key, 'm'},
}
local writing = {
    {'SET', key, 'x'}, {'DEL', key}, {'HSET', key, 'f', 1}, {'HDEL', key, 'f'},
    {'UNLINK', key}, {'ZADD', key, 1, 'm'}, {'ZREM', key, 'm'}, {'DEL', key},
}
if ARGV[1] == 'write' then
    for _, one in ipairs(writing) do
        asked[#asked + 1] = one
    end
end
-- Redis 7.0: "The user executing the script can't run"; Redis 7.2 and Valkey: "ACL failure in script", "NOPERM"
local TOLD = {'NOPERM', 'ACL failure', "can't run", "can't access"}

local function denied(text)
    for _, words in ipairs(TOLD) do
        if string.find(text, words, 1, true) then
            return true
        end
    end
    return false
end

local refused = {}
for _, one in ipairs(asked) do
    local reply = redis.pcall(unpack(one))
    if type(reply) == 'table' and reply.err and denied(reply.err) then
        refused[#refused + 1] = one[1]
    end
end
return refused
