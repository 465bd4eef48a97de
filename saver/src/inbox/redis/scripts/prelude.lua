-- What all scripts share. KEYS[1] is the partition's base; everything that a script touches is named after it, so
-- that it lies in one slot. ARGV[1] is the epoch that the caller knows, ARGV[2] the time in ms.
--
-- base .. 'm'  hash: e epoch, s counters, l landed, d remembered ids, x inboxes let go, g journal entry at which the
--              epoch began, o the server's replication id at that time, k idempotency keys (see tie.lua)
-- base .. 'i' .. name  an inbox, hash: h its head, <slot> an entry, l<slot> how often that entry was loaded, k<key> the slot
--              of the one entry with that collapse key
-- base .. 'c' .. id    payload of a message to many, for entries that do not have it; ends with the message
-- base .. 'j'  journal, stream; base .. 'w' watch list, base .. 'r' ring of inboxes; base .. 'a', 'b' remembered ids
local base, E, now = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local call, pack, unpack_of, sub = redis.call, struct.pack, struct.unpack, string.sub
local meta_key = base .. 'm'
local meta = call('HMGET', meta_key, 'e', 's', 'l', 'x')
if meta[1] ~= ARGV[1] then
  return redis.error_reply('STALE the epoch is ' .. (meta[1] or 'lost'))
end
-- Greatest number given, last journal entry, journal lines and bytes ever written.
local floor, jn, jr, jb = unpack_of('>I8I8I8I8', meta[2])
-- Last landed entry, lines and bytes up to it.
local ln, lr, lb = unpack_of('>I8I8I8', meta[3])

-- An inbox's head: slots are dense and in order of numbers; those from `first` on may hold an entry.
local HEAD = '>I8i8i8I8I4i8I8I8I4B'
local function head(name)
  local key = base .. 'i' .. name
  local raw = call('HGET', key, 'h')
  if not raw then return nil, key, false end
  local e, first, next_, last, n, loaded, jid, begin, touched, flags = unpack_of(HEAD, raw)
  -- One of another epoch is as good as none.
  if e ~= E then return nil, key, true end
  return { name = name, key = key, first = first, next = next_, last = last, n = n, loaded = loaded, jid = jid,
    begin = begin, touched = touched, partial = flags % 2 == 1, watched = flags >= 2 }, key, true
end
local function packed(h)
  return pack(HEAD, E, h.first, h.next, h.last, h.n, h.loaded, h.jid, h.begin, math.floor(now / 1000),
    (h.partial and 1 or 0) + (h.watched and 2 or 0))
end
local function ring(name)
  call('RPUSH', base .. 'r', pack('>I8', now) .. name)
end
local function watch(h, since)
  if not h.watched then
    h.watched = true
    call('RPUSH', base .. 'w', pack('>I8', since) .. h.name)
  end
end

-- The journal: what one call has to say is one entry of the stream.
local notes, lines, bytes = {}, 0, 0
local function note(field, value, count)
  notes[#notes + 1] = field
  notes[#notes + 1] = value
  lines = lines + count
  bytes = bytes + #field + #value + 32
end
local function finish(state, rows)
  if #rows > 0 then note('F' .. state, table.concat(rows), #rows) end
end
local function close()
  if #notes > 0 then
    jn, jr, jb = jn + 1, jr + lines, jb + bytes
    call('XADD', base .. 'j', string.format('0-%.0f', jn), 't', pack('>I8I8I8', jr, jb, now), unpack(notes))
  end
  call('HSET', meta_key, 's', pack('>I8I8I8I8', floor, jn, jr, jb))
end
-- Sizes of an entry's collapse key and payload: 7 and 25 bits. The key stands before the payload.
local function sizes(v, at)
  local both = unpack_of('>I4', v, at or 49)
  return math.floor(both / 33554432), both % 33554432
end
-- Notes the fields that go with an entry.
local function drop(h, slots, slot, v)
  slots[#slots + 1] = slot
  if slot <= h.loaded then slots[#slots + 1] = 'l' .. slot end
  local key = sizes(v)
  if key > 0 then slots[#slots + 1] = 'k' .. sub(v, 53, 52 + key) end
end
-- Takes entries out of an inbox; those that are all of it go with the key, which then is small again.
local function remove(h, slots)
  if #slots == 0 then return end
  if h.n == 0 then
    call('DEL', h.key)
    h.first, h.loaded = h.next, h.next - 1
    return
  end
  for i = 1, #slots, 1000 do
    call('HDEL', h.key, unpack(slots, i, math.min(i + 999, #slots)))
  end
end
