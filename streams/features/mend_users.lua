-- Writes states that were made again from the log, where a key still holds what no state is.
--
-- KEYS  the users
-- ARGV  per user: '1' if the key was no string, what it held, the state to write ('' to remove the key)
-- Reply how many were written. A worker that was faster has written a state: that stays.

local mended = 0
for i = 1, #KEYS do
    local at = 3 * i - 2
    local found = redis.pcall('GET', KEYS[i])
    local is_foreign = type(found) == 'table'
    if is_foreign and ARGV[at] == '1' or not is_foreign and ARGV[at] == '0' and found == ARGV[at + 1] then
        if ARGV[at + 2] == '' then
            redis.call('DEL', KEYS[i])
        else
            redis.call('SET', KEYS[i], ARGV[at + 2])
        end
        mended = mended + 1
    end
end
return mended
