-- Writes what was told of ids of one slot that are one person with others, and moves the slot's mark of `identities`.
--
-- KEYS  marks of the identities topic, then the ids that are told of, then keys that say that somebody was forgotten
-- ARGV  partition, the least mark expected ('' for none), the mark to set, most words that are kept a side,
--       then per word on two ids, for an id of this slot: number of its key, the side of the other ('users' or
--       'guests'), the other id, the word ('time offset partition linked'), which stays where it is the greater
--       one: any order, and a word that comes again, give the same. So a worker that lost its partition does no harm;
--       and the numbers of the keys that say that one of the two was forgotten, as far as they are of this slot, else 0.
--       A word of before that is not written.
-- Reply 'written', or 'behind' when the store has less than was left there: then nothing was written.
--       {'written', key, ...} when these keys held what no links are. They begin anew, and the mark with them: the
--       topic is read again from its beginning.

local reply = { 'written' }
local mark = redis.pcall('HGET', KEYS[1], ARGV[1])
if type(mark) == 'table' then
    redis.call('DEL', KEYS[1])
    reply[2] = KEYS[1]
    mark = nil
end
mark = tonumber(mark or nil)
if ARGV[2] ~= '' and (mark or -1) < tonumber(ARGV[2]) then
    return 'behind'
end

local function numbers(word)
    local found = {}
    for part in string.gmatch(word, '%S+') do
        found[#found + 1] = tonumber(part)
    end
    return found
end

local function greater(a, b)
    local x, y = numbers(a), numbers(b)
    for i = 1, 4 do
        if x[i] ~= y[i] then
            return x[i] > y[i]
        end
    end
    return false
end

local function is_side(side)
    if type(side) ~= 'table' then
        return false
    end
    for other, word in pairs(side) do
        if type(other) ~= 'string' or type(word) ~= 'string' or #numbers(word) ~= 4 then
            return false
        end
    end
    return true
end

local function read(key)
    local value = redis.pcall('GET', key)
    if type(value) == 'string' then
        local is_json, links = pcall(cjson.decode, value)
        if is_json and type(links) == 'table' and is_side(links.users) and is_side(links.guests) then
            return links
        end
    end
    if value then
        reply[#reply + 1] = key
    end
    return { users = {}, guests = {} }
end

local function put(side, other, word)
    if not side[other] or greater(word, side[other]) then
        side[other] = word
    end
    local count, oldest = 0, nil
    for name, one in pairs(side) do
        count = count + 1
        if not oldest or greater(side[oldest], one) then
            oldest = name
        end
    end
    if count > tonumber(ARGV[4]) then
        side[oldest] = nil
    end
end

local function is_forgotten(word, number)
    local said = number ~= '0' and redis.pcall('GET', KEYS[tonumber(number)])
    local since = tonumber(type(said) == 'string' and string.match(said, '^%d+') or -1)
    return numbers(word)[1] <= since
end

local links = {}
for i = 5, #ARGV, 6 do
    local key, word = KEYS[tonumber(ARGV[i])], ARGV[i + 3]
    if not (is_forgotten(word, ARGV[i + 4]) or is_forgotten(word, ARGV[i + 5])) then
        links[key] = links[key] or read(key)
        put(links[key][ARGV[i + 1]], ARGV[i + 2], word)
    end
end
for key, one in pairs(links) do
    redis.call('SET', key, cjson.encode(one))
end
if #reply > 1 then
    redis.call('DEL', KEYS[1])
elseif not mark or mark < tonumber(ARGV[3]) then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
return #reply > 1 and reply or 'written'
