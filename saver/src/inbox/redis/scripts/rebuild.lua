-- ARGV 3..: name, how many inboxes had been let go when it was absent, then what survives: entries without payload,
-- ascending. Answers 0 if the journal of an earlier epoch has not landed yet, else 1.
if tonumber(call('HGET', meta_key, 'g') or 0) > ln then return 0 end
-- What was let go since may have been this inbox, with more in it than the caller knows.
if tonumber(meta[4] or 0) ~= tonumber(ARGV[4]) then return 1 end
local name = ARGV[3]
local h, key, there = head(name)
if h and not h.partial then return 1 end
local keep = {}
for i = 5, #ARGV do
  local seq, be = unpack_of('>I8I8', ARGV[i])
  -- What a partial inbox was given itself is there, or has left it. What is of a later epoch comes with it.
  if be < E or (be == E and (not h or seq < h.begin)) then keep[#keep + 1] = ARGV[i] end
end
if not h then
  if there then call('UNLINK', key) else ring(name) end
  local last = #keep > 0 and unpack_of('>I8', keep[#keep]) or 0
  last = math.max(floor, last)
  h = { name = name, key = key, first = 1, next = 1, last = last, n = 0, loaded = 0, jid = 0, begin = last + 1,
    partial = false, watched = false }
  h.next = #keep + 1
  h.first = 1
else
  h.first = h.first - #keep
end
h.partial = false
local fields, keys, rows = {}, {}, {}
-- Newest first: with each collapse key only the newest stays. A partial inbox may have one that is newer than all.
for i = #keep, 1, -1 do
  local v, slot = keep[i], h.first + i - 1
  local size = sizes(v)
  local field = size > 0 and 'k' .. sub(v, 53, 52 + size)
  if field and (keys[field] or call('HEXISTS', key, field) == 1) then
    rows[#rows + 1] = sub(v, 25, 32)
  else
    fields[#fields + 1], fields[#fields + 2] = slot, v
    h.n = h.n + 1
    if field then
      keys[field] = true
      fields[#fields + 1], fields[#fields + 2] = field, slot
    end
  end
end
if #rows > 0 then h.jid = jn + 1 end
fields[#fields + 1], fields[#fields + 2] = 'h', packed(h)
for i = 1, #fields, 1000 do
  call('HSET', key, unpack(fields, i, math.min(i + 999, #fields)))
end
if #rows > 0 then
  finish(6, rows)
  close()
end
return 1
