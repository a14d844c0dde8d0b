-- Remembers of ids of one slot that they were forgotten, by their digests, and takes away what other topics had told of
-- them until then: links until the time that is given, for those of the other id were taken away until then; attributes
-- also until a later time that is remembered.
--
-- KEYS  `private` of the slot, then one key per erasure, then, or not at all, links and attributes per erasure
-- ARGV  how many erasures; per erasure 'time partition offset'. Of two the later one stays: any order, and one that comes
--       again, give the same. Of two of one time it is the one whose place in the log is earlier.
-- Reply how many keys were changed or taken away.

local many = tonumber(ARGV[1])
if many > 0 then
    redis.call('SET', KEYS[1], '1')
end
local given, since = {}, {}
for i = 1, many do
    local known = redis.pcall('GET', KEYS[1 + i])
    local time, at = string.match(type(known) == 'string' and known or '', '^(%d+) %-?%d+ (%-?%d+)$')
    local new_time, new_at = string.match(ARGV[1 + i], '^(%d+) %-?%d+ (%-?%d+)$')
    time, new_time = tonumber(time or -1), tonumber(new_time)
    if time < new_time or time == new_time and tonumber(at) > tonumber(new_at) then
        redis.call('SET', KEYS[1 + i], ARGV[1 + i])
    end
    given[i], since[i] = new_time, math.max(time, new_time)
end

-- What is left of links, and whether any word is; of what are none nothing is.
local function later(value, time)
    local is_json, links = pcall(cjson.decode, type(value) == 'string' and value or '')
    local left, gone = false, false
    for _, name in ipairs({ 'users', 'guests' }) do
        local side = is_json and type(links) == 'table' and links[name]
        if type(side) ~= 'table' then
            return nil, false, true
        end
        for other, word in pairs(side) do
            local told = type(word) == 'string' and tonumber(string.match(word, '^(%d+) '))
            if told and told > time then
                left = true
            else
                side[other], gone = nil, true
            end
        end
    end
    return links, left, gone
end

local changed = 0
for i = 1, (#KEYS - 1 - many) / 2 do
    local of_links, of_attributes = KEYS[many + 2 * i], KEYS[many + 2 * i + 1]
    local links = redis.pcall('GET', of_links)
    if links then
        local found, left, gone = later(links, given[i])
        if not left then
            changed = changed + redis.call('DEL', of_links)
        elseif gone then
            redis.call('SET', of_links, cjson.encode(found))
            changed = changed + 1
        end
    end
    local told = redis.pcall('GET', of_attributes)
    local time = tonumber(type(told) == 'string' and string.match(told, '^{"@(%d+)":null') or 0)
    if told and time <= since[i] then
        changed = changed + redis.call('DEL', of_attributes)
    end
end
return changed
