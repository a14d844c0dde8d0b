-- Writes what one batch made of one slot, whole or not at all.
--
-- KEYS  marks, landmark, popular, then base and tail of each touched user, then where each forgotten one was last, then,
--       where items are touched, the totals of all items and these, `<head>i:<item>`, group by group
-- ARGV  numbers of marks, users, forgotten users and groups of items; the landmark;
--       per mark:  partition, the offset it is expected at ('' for none), the offset to set
--       per user:  the count expected in the stored state, and 'base' and a whole state to write ('' removes it), or 'tail'
--                  and what to append to it
--       per forgotten user: 'time partition offset'
--       per group of items that are counted alike: how many items, how many counts, then field and what to add to it for
--                  each (less than nothing for undone events); log2 of the decayed weight to add to each item, and of
--                  that to take off: 8 bytes each, minus infinity for none, or '' where no item has any
-- Reply 'applied', or what had changed meanwhile: 'marks', 'users', 'landmark'. Then nothing was written.
--       {'applied', key, ...} when these keys held what no statistics are: they begin anew with this batch.
--
-- The marks make it idempotent: a second run of the same arguments finds them moved and answers 'marks'.
-- What it writes are whole values, never "add": Redis before 7.2 cuts an append-only file that a crash has torn within a
-- transaction, and at its next start takes the first half of that for a part of the one that follows. Written once more,
-- values do no harm.
-- Redis undoes nothing of a script that fails half-way: so nothing after the first write may fail, whatever a key holds.

local marks, landmark, popular = KEYS[1], KEYS[2], KEYS[3]
local n_marks, n_users, n_forgotten = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local n_groups = tonumber(ARGV[4])
local at = 6

for i = 0, n_marks - 1 do
    local found = redis.call('HGET', marks, ARGV[at + 3 * i]) or ''
    if found ~= ARGV[at + 3 * i + 1] then
        return 'marks'
    end
end
local users_at = at + 3 * n_marks
-- The version of a stored state, without parsing it: where, says packed/__init__.py. Another type of key is an error table.
local has_tail = {}
local function version(i)
    local ends = redis.pcall('GETRANGE', KEYS[5 + 2 * i], -32, -1)
    if ends ~= '' then
        has_tail[i] = true
        return type(ends) == 'string' and string.match(ends, ':(%d+)$')
    end
    local head = redis.pcall('GETRANGE', KEYS[4 + 2 * i], 0, 31)
    if head == '' then
        return '0'
    end
    return type(head) == 'string' and (string.match(head, '^%c(%d+):') or string.match(head, '^{"count":(%d+),'))
end
for i = 0, n_users - 1 do
    if version(i) ~= ARGV[users_at + 3 * i] then
        return 'users'
    end
end
local found = redis.call('GET', landmark)
if not found then
    if ARGV[5] ~= '' then
        redis.call('SET', landmark, ARGV[5])
    end
elseif found ~= ARGV[5] then
    return 'landmark'
end

for i = 0, n_marks - 1 do
    redis.call('HSET', marks, ARGV[at + 3 * i], ARGV[at + 3 * i + 2])
end
for i = 0, n_users - 1 do
    local how, what = ARGV[users_at + 3 * i + 1], ARGV[users_at + 3 * i + 2]
    if how == 'tail' then
        local tail = KEYS[5 + 2 * i] -- short, and set anew: a string that was appended to takes up to twice its bytes
        redis.call('SET', tail, (has_tail[i] and redis.call('GET', tail) or '') .. what)
    else
        if what == '' then
            redis.call('DEL', KEYS[4 + 2 * i])
        else
            redis.call('SET', KEYS[4 + 2 * i], what)
        end
        if has_tail[i] then
            redis.call('DEL', KEYS[5 + 2 * i])
        end
    end
end
at = users_at + 3 * n_users
local key_at = 4 + 2 * n_users
for _ = 1, n_forgotten do
    redis.call('SET', KEYS[key_at], ARGV[at])
    key_at, at = key_at + 1, at + 1
end

local LN2, HUGE = math.log(2), 1e15
local reply = { 'applied' }
local function number(text)
    local value = tonumber(text or '')
    return value and value > -HUGE and value < HUGE and value or nil -- neither NaN nor infinity
end

local CHUNK = 1000 -- arguments at once; Lua has room for 8,000

local function read(key, fields)
    if #fields <= CHUNK then
        local values = redis.pcall('HMGET', key, unpack(fields))
        return not values.err and values or nil
    end
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

-- False where the key is of another type.
local function write(command, key, list)
    for from = 1, #list, CHUNK do
        local done = redis.pcall(command, key, unpack(list, from, math.min(#list, from + CHUNK - 1)))
        if type(done) == 'table' then
            return false
        end
    end
    return true
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

local ranked, unranked = {}, {} -- weights and items; items

-- The weight of an item with what is added and taken off; nil where none is left.
local function weighed(weight, is_counted, positive, added, taken)
    local is_left = weight ~= nil
    if added then
        weight, is_left = weight and sum(weight, added) or added, true
    end
    if weight and taken then
        weight, is_left = difference(weight, taken)
    end
    if is_counted then
        is_left = weight and positive and positive > 0
    end
    return is_left and weight or nil
end

local function weight_in(packed, n)
    local weight = packed ~= '' and struct.unpack('<d', packed, 8 * n + 1)
    return weight and weight > -math.huge and weight
end

-- One item: `fields` are log2, m:positive, and then those that it is counted by.
local function count(key, item, fields, steps, added, taken)
    local known = read(key, fields)
    local is_odd = not known
    if is_odd then
        redis.call('DEL', key)
        known = {}
    end
    local weight, positive = number(known[1]), number(known[2])
    is_odd = is_odd or (known[1] and not weight)
    local is_counted = positive or not weight -- a release that did not count them may have left the weight
    local set, gone = {}, {} -- a count that is back at nothing goes; a field that holds no number begins anew
    for i = 3, #fields do
        local held = known[i]
        local now = held and string.match(held, '^%d+$') and number(held)
        is_odd = is_odd or (held and not now)
        now = (now or 0) + steps[i]
        if now > 0 then
            set[#set + 1] = fields[i]
            set[#set + 1] = string.format('%.0f', now)
        elseif held then
            gone[#gone + 1] = fields[i]
        end
        if fields[i] == 'm:positive' then
            positive = now
        end
    end
    if added or taken then
        weight = weighed(weight, is_counted, positive, added, taken)
        if weight then
            local text = string.format('%.17g', weight)
            set[#set + 1], set[#set + 2] = 'log2', text
            ranked[#ranked + 1], ranked[#ranked + 2] = text, item
        else
            gone[#gone + 1] = 'log2'
            unranked[#unranked + 1] = item
        end
    end
    write('HSET', key, set)
    write('HDEL', key, gone)
    if is_odd then
        reply[#reply + 1] = key
    end
end

local item_from = #popular - #'popular' + #'i:' + 1
for _ = 1, n_groups do
    local n_items, n_fields = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local fields, steps = { 'log2', 'm:positive' }, {}
    for i = 1, n_fields do
        fields[2 + i], steps[2 + i] = ARGV[at + 2 * i], tonumber(ARGV[at + 2 * i + 1])
    end
    at = at + 2 + 2 * n_fields
    local added, taken = ARGV[at], ARGV[at + 1]
    at = at + 2
    for n = 0, n_items - 1 do
        local key = KEYS[key_at]
        key_at = key_at + 1
        count(key, string.sub(key, item_from), fields, steps, weight_in(added, n), weight_in(taken, n))
    end
end
if not write('ZREM', popular, unranked) or not write('ZADD', popular, ranked) then
    redis.call('DEL', popular)
    write('ZADD', popular, ranked)
    reply[#reply + 1] = popular
end
return #reply > 1 and reply or 'applied'
