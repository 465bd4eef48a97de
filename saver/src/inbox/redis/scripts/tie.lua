-- Ties an idempotency key. ARGV 3..: what to do, name, value = id 8, end I8, fingerprint; most journal lines, most
-- journal bytes, keys kept in a bucket, bits of a filter's bucket, whether to check the server's identity; places in a
-- filter. What to do: 't' tie it if it is new, 'm' only note that the archive may have it, 'l' it is tied so in the
-- archive. Answers 0 and its value if it is known, 1 if it is tied now, 2 if only the archive can tell.
--
-- Keys are kept with their values in two buckets, 'p' and 'q'; whatever was ever asked for is noted in two buckets of a
-- filter, 'x' and 'y'. What is in none of them was tied, if ever, at a time of which all has ended since: so it is new.
local mode, name, value = ARGV[3], ARGV[4], ARGV[5]
if ARGV[10] == '1' then
  -- A server that was promoted since may lack what was tied.
  local id = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  if id ~= call('HGET', meta_key, 'o') then return redis.error_reply('STALE another server') end
end
-- When the last ends that is known to the archive alone; keys in the newer bucket, the journal's entry when it was
-- opened, which it is. Of the filter: bits of its newer and older bucket, keys in the newer, the journal's entry when
-- that was opened, when the last of each ends, which is the newer.
local WORDS = '>I8I8I8BI8I8I8I8I8I8B'
local ends = unpack_of('>I8', value, 9)
local k = call('HGET', meta_key, 'k')
local alone, count, opened, which, bits, obits, fcount, fopened, fends, oends, fwhich
if k then
  alone, count, opened, which, bits, obits, fcount, fopened, fends, oends, fwhich = unpack_of(WORDS, k)
else
  -- The store is older than this: what was tied before ends no later than what is tied now.
  alone, count, opened, which, bits, obits, fcount, fopened, fends, oends, fwhich = ends, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
end
local newer, older = base .. (which == 0 and 'p' or 'q'), base .. (which == 0 and 'q' or 'p')
local filter, ofilter = base .. (fwhich == 0 and 'x' or 'y'), base .. (fwhich == 0 and 'y' or 'x')
local function noted(key, size)
  if size == 0 then return false end
  for i = 11, #ARGV do
    if call('GETBIT', key, tonumber(ARGV[i]) % size) == 0 then return false end
  end
  return true
end
if mode ~= 'l' then
  local known = call('HGET', newer, name) or call('HGET', older, name)
  if known and unpack_of('>I8', known, 9) > now then return { 0, known } end
end
local tied = mode == 'l'
if mode == 't' and now >= alone and not noted(filter, bits) and not noted(ofilter, obits) then
  if jr - lr >= tonumber(ARGV[6]) or jb - lb >= tonumber(ARGV[7]) then
    return redis.error_reply('BEHIND the journal is full')
  end
  tied = true
  note('W' .. name, value, 1)
end
-- A bucket may go when the archive has all of it.
if tied then
  if count >= tonumber(ARGV[8]) and opened <= ln + 1 then
    call('UNLINK', older)
    newer, count, opened, which = older, 0, jn + 1, 1 - which
  end
  count = count + call('HSET', newer, name, value)
end
if fcount * 12 >= bits and fopened <= ln + 1 then
  call('UNLINK', ofilter)
  alone = math.max(alone, oends)
  obits, oends, filter, fwhich = bits, fends, ofilter, 1 - fwhich
  bits, fcount, fopened, fends = tonumber(ARGV[9]), 0, jn + 1, 0
end
local fresh = 0
for i = 11, #ARGV do
  if call('SETBIT', filter, tonumber(ARGV[i]) % bits, 1) == 0 then fresh = 1 end
end
fcount, fends = fcount + fresh, math.max(fends, ends)
call('HSET', meta_key, 'k',
  pack(WORDS, alone, count, opened, which, bits, obits, fcount, fopened, fends, oends, fwhich))
close()
return { tied and 1 or 2 }
