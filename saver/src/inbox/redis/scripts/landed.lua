-- ARGV 3..: the last entry that has landed, journal lines and bytes up to it.
local entry = tonumber(ARGV[3])
if entry > ln then
  call('HSET', meta_key, 'l', pack('>I8I8I8', entry, tonumber(ARGV[4]), tonumber(ARGV[5])))
  call('XTRIM', base .. 'j', 'MINID', string.format('0-%.0f', entry + 1))
end
return 1
