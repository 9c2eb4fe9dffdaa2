//! What must happen at once, as scripts. Each touches one user's slot, or the base's.
//!
//! Epochs are microseconds by the server's clock, and more than any before that it knows of. A user without one gets one when it is
//! asked for: so whatever the server forgets (evicted, ended, lost with its memory), no epoch comes back, and no answer of an old one.

use std::sync::LazyLock;

use redis::Script;

/// KEYS: epoch. ARGV: its time to live. Gives the user's epoch.
pub(super) static EPOCH: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local e = redis.call('GET', KEYS[1])
if e then return e end
local t = redis.call('TIME')
e = string.format('%.0f', t[1] * 1000000 + t[2])
redis.call('SET', KEYS[1], e, 'PX', ARGV[1])
return e",
    )
});

/// KEYS: epoch. ARGV: its time to live, the least epoch. Gives the new one.
pub(super) static BUMP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local old = tonumber(redis.call('GET', KEYS[1]) or '0')
local e = string.format('%.0f', math.max(t[1] * 1000000 + t[2], old + 1, tonumber(ARGV[2])))
redis.call('SET', KEYS[1], e, 'PX', ARGV[1])
return e",
    )
});

/// KEYS: answer, index, epoch. ARGV: what to keep, its time to live, its epoch, the epoch's time to live. Keeps nothing of an epoch that
/// is over.
pub(super) static PUT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local e = redis.call('GET', KEYS[3])
if e and tonumber(e) > tonumber(ARGV[3]) then return 0 end
if e then redis.call('PEXPIRE', KEYS[3], ARGV[4]) end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - 1)
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[2]), KEYS[1])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2] + 1000) end
return 1",
    )
});

/// KEYS: index, epoch. ARGV: what the answers' keys begin with, the epoch's time to live, the least epoch. Gives how many answers were
/// removed, and the new epoch.
pub(super) static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local n = 0
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if string.sub(key, 1, #ARGV[1]) == ARGV[1] then
    n = n + redis.call('DEL', key)
    redis.call('ZREM', KEYS[1], key)
  end
end
local t = redis.call('TIME')
local old = tonumber(redis.call('GET', KEYS[2]) or '0')
local e = string.format('%.0f', math.max(t[1] * 1000000 + t[2], old + 1, tonumber(ARGV[3])))
redis.call('SET', KEYS[2], e, 'PX', ARGV[2])
return {n, e}",
    )
});

/// KEYS: base. ARGV: the run of the server, the greatest epoch that the caller has seen, `1` to raise it in any case. The base rises
/// with each new run: a server that came back may have forgotten epochs that others have seen. Gives the base.
pub(super) static ADOPT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local run = redis.call('HGET', KEYS[1], 'run')
local base = redis.call('HGET', KEYS[1], 'base')
if run ~= ARGV[1] or not base or ARGV[3] == '1' then
  local t = redis.call('TIME')
  base = string.format('%.0f', math.max(t[1] * 1000000 + t[2], tonumber(base or '0') + 1, tonumber(ARGV[2]) + 1))
  redis.call('HSET', KEYS[1], 'run', ARGV[1], 'base', base)
end
return base",
    )
});
