-- ARGV 3..: name, '1' if the position acknowledges, position (epoch I8, seq I8) or '', most messages, most bytes, most
-- loads of a message. Answers nothing if the inbox must be rebuilt, else start, through, 1 if there is more, how many
-- have left, and the entries.
local h = head(ARGV[3])
if not h or h.partial then return {} end
local pe, ps
if ARGV[5] ~= '' then
  pe, ps = unpack_of('>I8I8', ARGV[5])
  if pe > E then pe, ps = nil, nil end
end
local most, room, most_loads = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local gone, slots = { {}, {}, {}, {} }, {}
local function leave(slot, v, state)
  local rows = gone[state]
  rows[#rows + 1] = sub(v, 25, 32)
  h.n = h.n - 1
  drop(h, slots, slot, v)
end
local acknowledges = pe and ARGV[4] == '1'
-- The front: what is acknowledged, over, or a gap.
local front = true
while front and h.first < h.next do
  local v = call('HGET', h.key, h.first)
  if v then
    local seq, be = unpack_of('>I8I8', v)
    if acknowledges and be <= pe and seq <= ps then
      leave(h.first, v, 1)
    elseif unpack_of('>I8', v, 33) <= now then
      leave(h.first, v, 2)
    else
      front = false
    end
  end
  if front then h.first = h.first + 1 end
end
-- The greatest number such that nothing up to it is left for who stands there.
local start, slot = nil, h.first
if pe == E then
  start = math.min(ps, h.last)
  -- Numbers of this epoch follow one another, so the place can be guessed.
  local guess = h.next - (h.last - start)
  if guess > slot then
    local v = guess < h.next and call('HGET', h.key, guess)
    if guess >= h.next or (v and unpack_of('>I8', v) == start + 1) then slot = guess end
  end
else
  start = h.last
  local at = slot
  while at < h.next do
    local v = call('HGET', h.key, at)
    if v then
      local seq, be = unpack_of('>I8I8', v)
      if not pe or be > pe or seq > ps then
        start, slot = seq - 1, at
        break
      end
    end
    at = at + 1
  end
end
local out, counts, through, more = {}, {}, h.last, 0
local n, used, newest = 0, 0, start
while slot < h.next and more == 0 do
  local upto = math.min(slot + 31, h.next - 1)
  local want = {}
  for s = slot, upto do want[#want + 1] = s end
  local found = call('HMGET', h.key, unpack(want))
  for k = 1, #want do
    local v, s = found[k], want[k]
    local seq = v and unpack_of('>I8', v)
    if v and seq > start then
      local loads = s <= h.loaded and tonumber(call('HGET', h.key, 'l' .. s) or 0) or 0
      if unpack_of('>I8', v, 33) <= now then
        leave(s, v, 2)
      elseif loads >= most_loads then
        leave(s, v, 4)
      else
        local key, size = sizes(v)
        used = used + size
        if n >= most or (used > room and n > 0) then
          more, through = 1, newest
          break
        end
        n = n + 1
        newest = seq
        if size > 0 and #v == 52 + key then v = v .. (call('GET', base .. 'c' .. sub(v, 17, 24)) or '') end
        out[n] = v
        counts[#counts + 1], counts[#counts + 2] = 'l' .. s, loads + 1
        if s > h.loaded then h.loaded = s end
      end
    end
  end
  slot = upto + 1
end
local left = #gone[1] + #gone[2] + #gone[4]
if n > 0 then watch(h, now) end
if left > 0 then h.jid = jn + 1 end
-- A look that changes nothing is noted once a minute, for whoever looks for idle inboxes.
if n > 0 or left > 0 or now - h.touched * 1000 > 60000 then
  remove(h, slots)
  counts[#counts + 1], counts[#counts + 2] = 'h', packed(h)
  for i = 1, #counts, 1000 do
    call('HSET', h.key, unpack(counts, i, math.min(i + 999, #counts)))
  end
end
if left > 0 then
  finish(1, gone[1])
  finish(2, gone[2])
  finish(4, gone[4])
  close()
end
return { start, through, more, left, unpack(out) }
