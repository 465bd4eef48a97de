-- ARGV 3..: most journal lines, most journal bytes, ids remembered in a bucket, whether to check the server's identity;
-- then for each delivery: name, body = cap I4, flags B (1 multicast, 2 checked), id 8, row 8, expires I8, accepted I8,
-- sizes I4, collapse key, payload. Answers a number for each: its seq if it is new, -seq if it was there, 0 if it was there and has
-- gone, -1 to ask the archive.
local window = tonumber(ARGV[5])
if jr - lr >= tonumber(ARGV[3]) or jb - lb >= tonumber(ARGV[4]) then
  return redis.error_reply('BEHIND the journal is full')
end
if ARGV[6] == '1' then
  -- A server that was promoted since may lack numbers that were given.
  local id = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if id ~= call('HGET', meta_key, 'o') then return redis.error_reply('STALE another server') end
end
-- Greatest ids of the older and the newer bucket and of those forgotten, ids in the newer, the journal's entry when it
-- was opened, which is the newer.
local DEDUP = '>I4I4I4I4I4I4I4I8B'
local ohi, olo, nhi, nlo, fhi, flo, count, opened, which = unpack_of(DEDUP, call('HGET', meta_key, 'd'))
local newer, older = base .. (which == 0 and 'a' or 'b'), base .. (which == 0 and 'b' or 'a')
local function above(ahi, alo, bhi, blo) return ahi > bhi or (ahi == bhi and alo > blo) end
local ghi, glo = nhi, nlo
if above(ohi, olo, ghi, glo) then ghi, glo = ohi, olo end
if above(fhi, flo, ghi, glo) then ghi, glo = fhi, flo end

-- Writes what is still to be written of an inbox; what reads it comes after.
local function store(h)
  local pending = h.pending
  for i = 1, #pending, 1000 do
    call('HSET', h.key, unpack(pending, i, math.min(i + 999, #pending)))
  end
  h.pending = {}
end

local heads, order, seen, ids, out = {}, {}, {}, {}, {}
local pushed, replaced = {}, {}
local last_id
for i = 7, #ARGV, 2 do
  local name, body = ARGV[i], ARGV[i + 1]
  local cap, flags, hi, lo = unpack_of('>I4BI4I4', body)
  local id = sub(body, 6, 13)
  if flags % 2 == 1 then id = id .. name end
  local twin, slot, answer = seen[id], nil, nil
  if twin then
    answer = -twin
  elseif not above(hi, lo, ghi, glo) then
    slot = call('HGET', newer, id) or call('HGET', older, id)
    if not slot and flags < 2 and not above(hi, lo, fhi, flo) then answer = -1 end
  end
  local h = heads[name]
  if not answer then
    if not h then
      local key, there
      h, key, there = head(name)
      if not h and not slot then
        if there then call('UNLINK', key) else ring(name) end
        h = { name = name, key = key, first = 1, next = 1, last = floor, n = 0, loaded = 0, jid = 0,
          begin = floor + 1, partial = true, watched = false }
      end
      if h then
        h.pending = {}
        heads[name], order[#order + 1] = h, h
      end
    end
    if slot then
      local there = h and call('HGET', h.key, slot)
      if there and sub(there, 17, 24) == sub(body, 6, 13) then
        answer = -unpack_of('>I8', there)
      else
        answer = 0
      end
    end
  end
  if not answer then
    local key, size = sizes(body, 38)
    local field = key > 0 and 'k' .. sub(body, 42, 41 + key)
    if field then
      -- What was stored with the same key leaves with this.
      store(h)
      local old = tonumber(call('HGET', h.key, field))
      local v = old and call('HGET', h.key, old)
      if v then
        h.n = h.n - 1
        replaced[#replaced + 1] = sub(v, 25, 32)
        local slots = {}
        drop(h, slots, old, v)
        remove(h, slots)
      end
    end
    local seq = h.last + 1
    h.last = seq
    if seq > floor then floor = seq end
    slot = h.next
    h.next = slot + 1
    h.n = h.n + 1
    local place = pack('>I8I8', seq, E)
    local entry = place .. sub(body, 6)
    local pending = h.pending
    pending[#pending + 1], pending[#pending + 2] = slot, entry
    if field then pending[#pending + 1], pending[#pending + 2] = field, slot end
    if h.n > cap then
      store(h)
      local slots = {}
      while h.n > cap do
        local oldest = call('HGET', h.key, h.first)
        if oldest then
          h.n = h.n - 1
          pushed[#pushed + 1] = sub(oldest, 25, 32)
          drop(h, slots, h.first, oldest)
        end
        h.first = h.first + 1
      end
      remove(h, slots)
    end
    watch(h, now)
    -- One payload serves all of a message's deliveries of this call.
    if id == last_id or sub(body, 6, 13) == last_id then
      note('a' .. name, sub(entry, 1, 52 + key), 1)
    else
      note('A' .. name, entry, 1)
    end
    last_id = sub(body, 6, 13)
    seen[id] = seq
    ids[#ids + 1], ids[#ids + 2] = id, slot
    if above(hi, lo, nhi, nlo) then nhi, nlo = hi, lo end
    answer = seq
  end
  out[#out + 1] = answer
end
finish(3, pushed)
finish(6, replaced)
for _, h in ipairs(order) do
  if #notes > 0 then h.jid = jn + 1 end
  local pending = h.pending
  pending[#pending + 1], pending[#pending + 2] = 'h', packed(h)
  store(h)
end
if #ids > 0 then
  for i = 1, #ids, 1000 do
    call('HSET', newer, unpack(ids, i, math.min(i + 999, #ids)))
  end
  count = count + #ids / 2
  -- Ids are forgotten only when the archive can be asked for them.
  if count >= window and opened <= ln then
    call('UNLINK', older)
    if above(ohi, olo, fhi, flo) then fhi, flo = ohi, olo end
    ohi, olo, nhi, nlo, count, opened, which = nhi, nlo, 0, 0, 0, jn + 1, 1 - which
  end
  call('HSET', meta_key, 'd', pack(DEDUP, ohi, olo, nhi, nlo, fhi, flo, count, opened, which))
end
close()
return out
