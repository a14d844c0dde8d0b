-- Writes what one batch made of one slot, whole or not at all.
--
-- KEYS  marks, landmark, popular, then base and tail of each touched user, then, where items are touched, the totals of
--       all items and these
-- ARGV  numbers of marks, users, items and totals; the landmark;
--       per mark:  partition, the offset it is expected at ('' for none), the offset to set
--       per user:  the count expected in the stored state, and 'base' and a whole state to write ('' removes it), or 'tail'
--                  and what to append to it
--       per item:  item id ('' of the totals), log2 of the decayed weight to add and of that to take off ('' for none),
--                  number of counts, then field and what to add to it for each: less than nothing for undone events
-- Reply 'applied', or what had changed meanwhile: 'marks', 'users', 'landmark'. Then nothing was written.
--       {'applied', key, ...} when these keys held what no statistics are: they begin anew with this batch.
--
-- The marks make it idempotent: a second run of the same arguments finds them moved and answers 'marks'.
-- What it writes are whole values, never "add": Redis before 7.2 cuts an append-only file that a crash has torn within a
-- transaction, and at its next start takes the first half of that for a part of the one that follows. Written once more,
-- values do no harm.
-- Redis undoes nothing of a script that fails half-way: so nothing after the first write may fail, whatever a key holds.

local marks, landmark, popular = KEYS[1], KEYS[2], KEYS[3]
local n_marks, n_users, n_items = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 5

for i = 0, n_marks - 1 do
    local found = redis.call('HGET', marks, ARGV[at + 3 * i]) or ''
    if found ~= ARGV[at + 3 * i + 1] then
        return 'marks'
    end
end
local users_at = at + 3 * n_marks
-- The version of a stored state, without parsing it: where, says packed/__init__.py. Another type of key is an error table.
local function version(base, tail)
    local ends = redis.pcall('GETRANGE', tail, -32, -1)
    if ends ~= '' then
        return type(ends) == 'string' and string.match(ends, ':(%d+)$')
    end
    local head = redis.pcall('GETRANGE', base, 0, 31)
    if head == '' then
        return '0'
    end
    return type(head) == 'string' and (string.match(head, '^%c(%d+):') or string.match(head, '^{"count":(%d+),'))
end
for i = 0, n_users - 1 do
    if version(KEYS[4 + 2 * i], KEYS[5 + 2 * i]) ~= ARGV[users_at + 3 * i] then
        return 'users'
    end
end
local found = redis.call('GET', landmark)
if not found then
    if ARGV[4] ~= '' then
        redis.call('SET', landmark, ARGV[4])
    end
elseif found ~= ARGV[4] then
    return 'landmark'
end

for i = 0, n_marks - 1 do
    redis.call('HSET', marks, ARGV[at + 3 * i], ARGV[at + 3 * i + 2])
end
for i = 0, n_users - 1 do
    local how, what = ARGV[users_at + 3 * i + 1], ARGV[users_at + 3 * i + 2]
    if how == 'tail' then
        local tail = KEYS[5 + 2 * i] -- short, and set anew: a string that was appended to takes up to twice its bytes
        redis.call('SET', tail, (redis.call('GET', tail) or '') .. what)
    else
        if what == '' then
            redis.call('DEL', KEYS[4 + 2 * i])
        else
            redis.call('SET', KEYS[4 + 2 * i], what)
        end
        redis.call('DEL', KEYS[5 + 2 * i])
    end
end

local LN2, HUGE = math.log(2), 1e15
local reply = { 'applied' }
local function number(text)
    local value = tonumber(text or '')
    return value and value > -HUGE and value < HUGE and value or nil -- neither NaN nor infinity
end

local CHUNK = 1000 -- arguments at once; Lua has room for 8,000

local function read(key, fields)
    local values = {}
    for from = 1, #fields, CHUNK do
        local found = redis.pcall('HMGET', key, unpack(fields, from, math.min(#fields, from + CHUNK - 1)))
        if found.err then
            return nil
        end
        for i = 1, #found do
            values[from + i - 1] = found[i]
        end
    end
    return values
end

local function write(command, key, list)
    for from = 1, #list, CHUNK do
        redis.call(command, key, unpack(list, from, math.min(#list, from + CHUNK - 1)))
    end
end

local function rank(item, weight)
    local ranked
    if weight then
        ranked = redis.pcall('ZADD', popular, weight, item)
    else
        ranked = redis.pcall('ZREM', popular, item)
    end
    if type(ranked) == 'table' then
        redis.call('DEL', popular)
        if weight then
            redis.call('ZADD', popular, weight, item)
        end
        reply[#reply + 1] = popular
    end
end

-- log2(2^a + 2^b), from the larger one so that nothing overflows
local function sum(a, b)
    if a < b then a, b = b, a end
    return a + math.log(1 + 2 ^ (b - a)) / LN2
end

-- log2(2^a - 2^b), and whether rounding leaves anything of it: `subtract_log2` in decay.py
local function difference(a, b)
    local share = b < a and 1 - 2 ^ (b - a) or 0
    if share < 2 ^ -52 then
        return a - 52, false
    end
    return a + math.log(share) / LN2, true
end

at = users_at + 3 * n_users
for i = 0, n_items - 1 do
    local key, item, added, taken = KEYS[4 + 2 * n_users + i], ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local n_counts = tonumber(ARGV[at + 3])
    at = at + 4
    local fields = { 'log2', 'm:positive' }
    for field = at, at + 2 * n_counts - 2, 2 do
        fields[#fields + 1] = ARGV[field]
    end
    local known = read(key, fields)
    if not known then
        redis.call('DEL', key)
        known = {}
        reply[#reply + 1] = key
    end
    local weight, positive = number(known[1]), number(known[2])
    if known[1] and not weight then
        reply[#reply + 1] = key
    end
    local is_counted = positive or not weight -- a release that did not count them may have left the weight
    local set, gone = {}, {} -- a count that is back at nothing goes; a field that holds no number begins anew
    for i = 3, n_counts + 2 do
        local field, held = fields[i], known[i]
        local count = held and string.match(held, '^%d+$') and number(held)
        if held and not count then
            reply[#reply + 1] = key
        end
        count = (count or 0) + tonumber(ARGV[at + 1])
        at = at + 2
        if count > 0 then
            set[#set + 1] = field
            set[#set + 1] = string.format('%.0f', count)
        else
            gone[#gone + 1] = field
        end
        if field == 'm:positive' then
            positive = count
        end
    end
    if added ~= '' or taken ~= '' then
        local is_left = weight ~= nil
        if added ~= '' then
            weight, is_left = weight and sum(weight, tonumber(added)) or tonumber(added), true
        end
        if weight and taken ~= '' then
            weight, is_left = difference(weight, tonumber(taken))
        end
        if is_counted then
            is_left = weight and positive and positive > 0
        end
        local text = is_left and string.format('%.17g', weight) or nil
        if text then
            set[#set + 1] = 'log2'
            set[#set + 1] = text
        else
            gone[#gone + 1] = 'log2'
        end
        rank(item, text)
    end
    write('HSET', key, set)
    write('HDEL', key, gone)
end
return #reply > 1 and reply or 'applied'
