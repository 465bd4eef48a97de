-- ARGV 3..: most journal lines, most journal bytes, ids remembered in a bucket, whether to check the server's identity;
-- then for each delivery: name, body = cap I4, flags B (1 multicast, 2 checked), id 8, row 8, expires I8, accepted I8,
-- sizes I4, collapse key, payload. Several of one message to many follow on '' and a body without row (a flag 4 says that the
-- payload is kept once for all of them), each as name and row. Answers a number for each delivery: its seq if it is new, -seq if
-- it was there, 0 if it was there and has gone, -1 to ask the archive.
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

-- Lists that get much in one call get it at once.
local ringed, listed = {}, {}
local now8 = pack('>I8', now)
local function ring(name) ringed[#ringed + 1] = now8 .. name end
local function watch(h)
  if not h.watched then
    h.watched = true
    listed[#listed + 1] = now8 .. h.name
  end
end
local function push(key, values)
  for i = 1, #values, 1000 do
    call('RPUSH', key, unpack(values, i, math.min(i + 999, #values)))
  end
end

-- Slots as text: a call formats each number that it is given, at half a microsecond.
local texts = {}
local function text(slot)
  local known = texts[slot]
  if not known then
    known = string.format('%d', slot)
    texts[slot] = known
  end
  return known
end

local heads, order, seen, ids, out, blocks = {}, {}, {}, {}, {}, {}

-- Looks for remembered ids in a bucket; those that are found get their slots.
local function recall(bucket, wanted, slots)
  for i = 1, #wanted, 1000 do
    local last = math.min(i + 999, #wanted)
    local found = call('HMGET', bucket, unpack(wanted, i, last))
    for k = i, last do slots[wanted[k]] = slots[wanted[k]] or found[k - i + 1] end
  end
end

-- What the deliveries of one message to many share, which begin at ARGV[at].
local function shared(body, at)
  local cap, flags, hi, lo = unpack_of('>I4BI4I4', body)
  local key = sizes(body, 30)
  local m = { cap = cap, flags = flags, hi = hi, lo = lo, id = sub(body, 6, 13), tail = sub(body, 14, 33 + key),
    payload = sub(body, 34 + key), slots = {}, field = key > 0 and 'k' .. sub(body, 34, 33 + key),
    told = {}, count = 0 }
  blocks[#blocks + 1] = m
  -- Whether what is not remembered is certainly new.
  m.certain = flags % 4 >= 2 or above(hi, lo, fhi, flo)
  if not above(hi, lo, ghi, glo) then
    local wanted = {}
    while at < #ARGV and #ARGV[at + 1] == 8 do
      wanted[#wanted + 1] = m.id .. ARGV[at]
      at = at + 2
    end
    recall(newer, wanted, m.slots)
    if not above(hi, lo, ohi, olo) then recall(older, wanted, m.slots) end
  end
  return m
end

-- A message with a body of its own.
local function single(body)
  local cap, flags, hi, lo = unpack_of('>I4BI4I4', body)
  local key = sizes(body, 38)
  return { cap = cap, flags = flags, hi = hi, lo = lo, id = sub(body, 6, 13), rest = sub(body, 6),
    field = key > 0 and 'k' .. sub(body, 42, 41 + key) }
end

local pushed, replaced = {}, {}
local many
local E8 = pack('>I8', E)

-- What the journal has of a message to many is one field for all its deliveries of a call. This is one of them.
local function tell(m, name, seq8, row)
  local told = m.told
  told[#told + 1], told[#told + 2], told[#told + 3], told[#told + 4] = string.char(#name), name, seq8, row
  m.count = m.count + 1
end
local function remember(m, id, seq, slot)
  seen[id] = seq
  ids[#ids + 1], ids[#ids + 2] = id, slot
  if above(m.hi, m.lo, nhi, nlo) then nhi, nlo = m.hi, m.lo end
end

-- Most deliveries of a message to many are new, have no key, and find no inbox or one with room. These are written at once, in
-- two calls; whatever is not so answers nothing here, and goes the long way.
local head_of_one = pack('>I8i8i8', E, 1, 2)
local rest_of_one = pack('>I4i8I8', 1, 0, jn + 1)
local end_of_one = pack('>I4B', math.floor(now / 1000), 3)
local function plain(m, name, row)
  local id = m.id .. name
  if m.field or not m.certain or heads[name] or seen[id] or m.slots[id] then return nil end
  local key = base .. 'i' .. name
  local raw = call('HGET', key, 'h')
  local seq, slot, after
  if not raw then
    seq, slot = floor + 1, '1'
    local seq8 = pack('>I8', seq)
    after = head_of_one .. seq8 .. rest_of_one .. seq8 .. end_of_one
    local noted = now8 .. name
    ringed[#ringed + 1], listed[#listed + 1] = noted, noted
  else
    local e, first, next_, last, n, loaded, jid, begin, touched, flags = unpack_of(HEAD, raw)
    if e ~= E or n >= m.cap then return nil end
    seq, slot = last + 1, text(next_)
    if flags < 2 then
      flags = flags + 2
      listed[#listed + 1] = now8 .. name
    end
    after = pack(HEAD, E, first, next_ + 1, seq, n + 1, loaded, jn + 1, begin, math.floor(now / 1000), flags)
  end
  if seq > floor then floor = seq end
  local seq8 = pack('>I8', seq)
  local entry = seq8 .. E8 .. m.id .. row .. m.tail
  if m.flags < 4 then entry = entry .. m.payload end
  call('HSET', key, slot, entry, 'h', after)
  tell(m, name, seq8, row)
  remember(m, id, seq, slot)
  return seq
end

local function deliver(m, name, row)
  local hi, lo, flags, cap = m.hi, m.lo, m.flags, m.cap
  local id = m.id
  if flags % 2 == 1 then id = id .. name end
  local twin, slot, answer = seen[id], nil, nil
  if twin then
    answer = -twin
  elseif not above(hi, lo, ghi, glo) then
    if m.slots then
      slot = m.slots[id]
    else
      slot = call('HGET', newer, id) or call('HGET', older, id)
    end
    if not slot and flags % 4 < 2 and not above(hi, lo, fhi, flo) then answer = -1 end
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
      if there and sub(there, 17, 24) == m.id then
        answer = -unpack_of('>I8', there)
      else
        answer = 0
      end
    end
  end
  if not answer then
    local field = m.field
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
    slot = text(h.next)
    h.next = h.next + 1
    h.n = h.n + 1
    local seq8 = pack('>I8', seq)
    local entry
    if m.rest then
      entry = seq8 .. E8 .. m.rest
      note('A' .. name, entry, 1)
    else
      entry = seq8 .. E8 .. m.id .. row .. m.tail
      if flags < 4 then entry = entry .. m.payload end
      tell(m, name, seq8, row)
    end
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
    watch(h)
    remember(m, id, seq, slot)
    answer = seq
  end
  out[#out + 1] = answer
end
for i = 7, #ARGV, 2 do
  local name, body = ARGV[i], ARGV[i + 1]
  if name == '' then
    many = shared(body, i + 2)
  elseif #body == 8 then
    local seq = plain(many, name, body)
    if seq then out[#out + 1] = seq else deliver(many, name, body) end
  else
    deliver(single(body), name, sub(body, 14, 21))
  end
end
for _, m in ipairs(blocks) do
  if m.count > 0 then
    if m.flags >= 4 then
      -- An hour longer than the message, for clocks that differ.
      local left = math.min(unpack_of('>I8', m.tail) - now, 1099511627776)
      call('SET', base .. 'c' .. m.id, m.payload, 'PX', string.format('%.0f', math.max(left, 0) + 3600000))
    end
    -- No name follows, so an earlier version finds that it cannot read this, and does not pass it over.
    note('A', E8 .. m.id .. m.tail .. m.payload .. table.concat(m.told), m.count)
  end
end
push(base .. 'r', ringed)
push(base .. 'w', listed)
finish(3, pushed)
finish(6, replaced)
for _, h in ipairs(order) do
  if #notes > 0 then h.jid = jn + 1 end
  local pending = h.pending
  if #pending == 2 then
    -- One delivery, as almost always.
    call('HSET', h.key, pending[1], pending[2], 'h', packed(h))
  else
    pending[#pending + 1], pending[#pending + 2] = 'h', packed(h)
    store(h)
  end
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
