//! Appending, and reading what the archive is still to hear of.

use super::*;
use crate::{
    archive::{Reservation, SharedLife},
    inbox::{Tied, redis::codec::records},
};

/// Entries of a journal read at once at most, and the bytes to aim at in all journals that are read together: at most some
/// 40,000 lines, which the archive takes in about a second. What is read becomes one transaction, which must end within the
/// archive's time-out however many partitions there are.
const READ_ENTRIES: u64 = 1_024;
const READ_BYTES: u64 = 4 << 20;
/// And of each of them at least.
const READ_LEAST: u64 = 64 << 10;
/// A payload that so many deliveries of a call share is kept once for them, which costs some 120 B of Redis; a smaller one is
/// not worth the second look when it is loaded.
const APART: usize = 4;
const APART_BYTES: usize = 64;

/// A partition's journal, in numbers.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    epoch: Epoch,
    entry: u64,
    written: (u64, u64),
    landed: u64,
    landed_written: (u64, u64),
}

impl Journaled for RedisInboxes {
    async fn append(&self, items: &[Entry], now_ms: u64) -> Vec<InboxResult<Placed>> {
        let live = match self.live() {
            Ok(live) => live,
            Err(e) => return vec![Err(e); items.len()],
        };
        let settings = &self.shared.settings;
        let parts: Vec<_> = by_partition(&live, items.iter().map(|i| &i.staging.key)).collect();
        let window = (settings.ids / live.bases.len()).max(1);
        let calls = parts.iter().map(|(partition, indexes)| {
            let mut call = live.within(&scripts::APPEND, *partition, now_ms, 2 * indexes.len() + 4);
            call.cmd.arg(settings.journal_records).arg(settings.journal_bytes).arg(window);
            // Redis Cluster follows a fail-over by itself; a single server's connection ends with the server.
            call.cmd.arg(i32::from(settings.cluster));
            let of = |n: usize| &items[n];
            for run in indexes.chunk_by(|a, b| codec::alike(of(*a), of(*b))) {
                if let [one] = run {
                    call.cmd.arg(codec::name(&of(*one).staging.key)).arg(codec::body(of(*one), true, false));
                    continue;
                }
                let apart = run.len() >= APART && of(run[0]).staging.payload.len() >= APART_BYTES;
                call.cmd.arg("").arg(codec::body(of(run[0]), false, apart));
                for n in run {
                    let staging = &of(*n).staging;
                    call.cmd.arg(codec::name(&staging.key)).arg(staging.row.0.to_be_bytes().as_slice());
                }
            }
            call
        });
        let answers = live.link.run(Line::Appends, calls.collect()).await;
        let mut results: Vec<InboxResult<Placed>> = vec![Err(InboxError::Changing); items.len()];
        for ((_, indexes), answer) in parts.into_iter().zip(answers) {
            match answer {
                Ok(Value::Array(places)) => {
                    for (n, place) in indexes.into_iter().zip(places) {
                        results[n] = placed(live.epoch, &place);
                    }
                }
                Ok(other) => indexes.into_iter().for_each(|n| results[n] = Err(unexpected(&other))),
                Err(e) => {
                    let e = self.failed(&live, e);
                    indexes.into_iter().for_each(|n| results[n] = Err(e.clone()));
                }
            }
        }
        results
    }

    async fn tie(&self, wanted: &Reservation, certain: bool, now_ms: u64) -> InboxResult<Tied> {
        self.word(wanted, if certain { "t" } else { "m" }, now_ms).await
    }

    async fn tied(&self, wanted: &Reservation, so: bool, now_ms: u64) -> InboxResult<()> {
        self.word(wanted, if so { "l" } else { "m" }, now_ms).await.map(drop)
    }

    fn away_number(&self, life: &SharedLife, now_ms: u64) -> u64 {
        life::away_number(life, now_ms)
    }

    fn lacks(&self, life: Epoch) {
        self.give_up(life);
    }

    fn partitions(&self) -> u32 {
        self.shared.live.load().as_ref().map_or(0, |live| live.bases.len() as u32)
    }

    fn partition_of(&self, key: &InboxKey) -> u32 {
        match self.shared.live.load().as_ref() {
            Some(live) => live.partition_of(key),
            None => partition_of(key, self.shared.settings.partitions as usize),
        }
    }

    async fn journal(&self, partitions: &[u32]) -> InboxResult<Vec<JournalPart>> {
        let live = self.live()?;
        let numbers = self.numbers(&live, partitions).await?;
        let (mut wanted, mut calls) = (Vec::new(), Vec::new());
        let behind = numbers.iter().filter(|n| n.entry > n.landed).count().max(1) as u64;
        let share = (READ_BYTES / behind).max(READ_LEAST);
        for (partition, numbers) in partitions.iter().zip(numbers) {
            let entries = numbers.entry.saturating_sub(numbers.landed);
            if entries == 0 {
                continue;
            }
            let bytes = numbers.written.1.saturating_sub(numbers.landed_written.1);
            let count = (share / (bytes / entries).max(1)).clamp(1, READ_ENTRIES);
            let mut cmd = plain("XRANGE", &live.bases[*partition as usize], "j");
            cmd.arg(format!("0-{}", numbers.landed + 1)).arg("+").arg("COUNT").arg(count);
            wanted.push((*partition, numbers));
            calls.push(Call { cmd, source: None });
        }
        let answers = live.link.run(Line::Journal, calls).await;
        let mut parts = Vec::with_capacity(wanted.len());
        for ((partition, numbers), answer) in wanted.into_iter().zip(answers) {
            let Value::Array(entries) = answer.map_err(|e| self.failed(&live, e))? else { continue };
            let mark = Mark { epoch: numbers.epoch, ..Mark::default() };
            let mut part = JournalPart { partition, mark, ..JournalPart::default() };
            for entry in entries {
                take(entry, &mut part).ok_or_else(|| {
                    InboxError::Unavailable(format!("the journal of partition {partition} cannot be read"))
                })?;
            }
            part.more = part.mark.entry < numbers.entry;
            if part.mark.entry > 0 {
                parts.push(part);
            }
        }
        Ok(parts)
    }

    async fn landed(&self, marks: &[(u32, Mark)]) -> InboxResult<()> {
        let live = self.live()?;
        let calls = marks.iter().map(|(partition, mark)| {
            let base = &live.bases[*partition as usize];
            let mut cmd = scripts::LANDED.by_hash(base, 5);
            cmd.arg(mark.epoch.0).arg(0).arg(mark.entry).arg(mark.written.0).arg(mark.written.1);
            Call { cmd, source: Some(&*scripts::LANDED) }
        });
        for answer in live.link.run(Line::Journal, calls.collect()).await {
            match answer {
                // It will be read and landed again in the new epoch.
                Ok(_) | Err(Failure::Stale) => {}
                Err(e) => return Err(self.failed(&live, e)),
            }
        }
        Ok(())
    }

    async fn lag(&self, partitions: &[u32]) -> InboxResult<Lag> {
        let live = self.live()?;
        let mut lag = Lag::default();
        let mut behind = Vec::new();
        for (partition, n) in partitions.iter().zip(self.numbers(&live, partitions).await?) {
            lag.records += n.written.0.saturating_sub(n.landed_written.0);
            lag.bytes += n.written.1.saturating_sub(n.landed_written.1);
            if n.entry > n.landed {
                let mut cmd = plain("XRANGE", &live.bases[*partition as usize], "j");
                cmd.arg(format!("0-{}", n.landed + 1)).arg("+").arg("COUNT").arg(1);
                behind.push(Call { cmd, source: None });
            }
        }
        for answer in live.link.run(Line::Journal, behind).await {
            let Value::Array(entries) = answer.map_err(|e| self.failed(&live, e))? else { continue };
            let since = entries.into_iter().next().and_then(written).map(|(_, _, at)| at);
            lag.since_ms = [lag.since_ms, since].into_iter().flatten().min();
        }
        Ok(lag)
    }
}

impl RedisInboxes {
    async fn numbers(&self, live: &Arc<Live>, partitions: &[u32]) -> InboxResult<Vec<Numbers>> {
        let calls = partitions.iter().map(|partition| {
            let mut cmd = plain("HMGET", &live.bases[*partition as usize], "m");
            cmd.arg("e").arg("s").arg("l");
            Call { cmd, source: None }
        });
        let mut all = Vec::with_capacity(partitions.len());
        for answer in live.link.run(Line::Journal, calls.collect()).await {
            match answer.map_err(|e| self.failed(live, e))? {
                Value::Array(values) => all.push(numbers(&values).unwrap_or_default()),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(all)
    }
}

fn numbers(values: &[Value]) -> Option<Numbers> {
    let [epoch, Value::BulkString(state), Value::BulkString(landed)] = values else { return None };
    let at = |bytes: &[u8], n: usize| Some(u64::from_be_bytes(*bytes.get(8 * n..)?.first_chunk()?));
    Some(Numbers {
        epoch: Epoch(number(Some(epoch))?),
        entry: at(state, 1)?,
        written: (at(state, 2)?, at(state, 3)?),
        landed: at(landed, 0)?,
        landed_written: (at(landed, 1)?, at(landed, 2)?),
    })
}

/// The answer of the append script for a delivery.
fn placed(epoch: Epoch, place: &Value) -> InboxResult<Placed> {
    let at = |seq: u64| Position { epoch, seq: Seq(seq) };
    match place {
        Value::Int(-1) => Ok(Placed::Ask),
        Value::Int(0) => Ok(Placed::Repeat(at(0))),
        Value::Int(seq) if *seq < 0 => Ok(Placed::Repeat(at(seq.unsigned_abs()))),
        Value::Int(seq) => Ok(Placed::New(at(seq.unsigned_abs()))),
        other => Err(unexpected(other)),
    }
}

/// Number and fields of a journal's entry.
fn fields(entry: Value) -> Option<(u64, Vec<Value>)> {
    let Value::Array(pair) = entry else { return None };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(pair).ok()? else {
        return None;
    };
    let number = std::str::from_utf8(&id).ok()?.strip_prefix("0-")?.parse().ok()?;
    Some((number, fields))
}

/// Lines and bytes ever written up to an entry, and when it was written.
fn written(entry: Value) -> Option<(u64, u64, u64)> {
    let (_, fields) = fields(entry)?;
    totals(fields.get(1)?)
}

fn totals(value: &Value) -> Option<(u64, u64, u64)> {
    let Value::BulkString(bytes) = value else { return None };
    let at = |n: usize| Some(u64::from_be_bytes(*bytes.get(8 * n..)?.first_chunk()?));
    Some((at(0)?, at(1)?, at(2)?))
}

/// Takes an entry into a part.
fn take(entry: Value, part: &mut JournalPart) -> Option<()> {
    let (number, fields) = fields(entry)?;
    let (lines, bytes, _) = totals(fields.get(1)?)?;
    let mut fields = fields.into_iter().skip(2);
    while let (Some(Value::BulkString(field)), Some(Value::BulkString(value))) =
        (fields.next(), fields.next())
    {
        records(&field, value, &mut part.records)?;
    }
    part.mark.entry = number;
    part.mark.written = (lines, bytes);
    Some(())
}
