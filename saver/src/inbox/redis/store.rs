//! The inbox store's seam, but for what concerns journals.

use super::*;

/// From this part of `maxmemory` on everything that has landed is let go, oldest first, in thousandths.
const PRESSURE: u64 = 850;

impl InboxStore for RedisInboxes {
    type Through = Infallible;
    const READS_AT_ONCE: usize = 32;

    fn through(&self) -> Option<&Infallible> {
        None
    }

    fn epoch(&self) -> Epoch {
        *self.shared.epochs.borrow()
    }

    async fn absent(&self, keys: &[InboxKey]) -> InboxResult<Vec<Absent>> {
        let live = self.live()?;
        let parts: Vec<_> = by_partition(&live, keys.iter()).collect();
        let calls = parts.iter().map(|(partition, indexes)| {
            let mut call = live.within(&scripts::ABSENT, *partition, 0, indexes.len());
            indexes.iter().for_each(|n| _ = call.cmd.arg(codec::name(&keys[*n])));
            call
        });
        let answers = live.link.run(Line::Calls, calls.collect()).await;
        let mut absent = Vec::new();
        for ((_, indexes), answer) in parts.into_iter().zip(answers) {
            let answer = answer.map_err(|e| self.failed(&live, e))?;
            let Value::Array(flags) = answer else { return Err(unexpected(&answer)) };
            let version = number(flags.first()).unwrap_or(0);
            let missing = indexes.into_iter().zip(&flags[1..]).filter(|(_, f)| **f == Value::Int(1));
            absent.extend(missing.map(|(n, _)| Absent { key: keys[n].clone(), version }));
        }
        Ok(absent)
    }

    async fn rebuild(&self, absent: &Absent, surviving: Vec<Surviving>, now_ms: u64) -> InboxResult<()> {
        let live = self.live()?;
        let mut call = live.about(&scripts::REBUILD, &absent.key, now_ms, surviving.len() + 1);
        call.cmd.arg(absent.version);
        for one in surviving.iter().filter(|s| s.expires_ms > now_ms) {
            call.cmd.arg(codec::surviving(one));
        }
        match self.call(&live, Line::Calls, call).await? {
            Value::Int(1) => Ok(()),
            _ => Err(InboxError::Changing),
        }
    }

    async fn load(&self, key: &InboxKey, read: Read, max_loads: u32, now_ms: u64) -> InboxResult<Loaded> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOAD, key, now_ms, 5);
        call.cmd.arg(i32::from(read.acknowledges));
        match read.after {
            Some(position) => call.cmd.arg(codec::asked(position).as_slice()),
            None => call.cmd.arg(""),
        };
        call.cmd.arg(read.max_messages.max(1)).arg(read.max_bytes).arg(max_loads);
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        let mut values = values.into_iter();
        let mut next = || number(values.next().as_ref());
        let Some(start) = next() else { return Err(InboxError::Absent) };
        let (through, more, _left) = (next().unwrap_or(start), next() == Some(1), next());
        let messages = values.filter_map(|v| match v {
            Value::BulkString(entry) => codec::loaded(entry),
            _ => None,
        });
        Ok(Loaded {
            start: Position { epoch: live.epoch, seq: Seq(start) },
            messages: messages.collect(),
            through: Seq(through),
            more,
            finished: Vec::new(),
        })
    }

    async fn ack(
        &self,
        items: &[(InboxKey, Position)],
        now_ms: u64,
    ) -> InboxResult<Vec<InboxResult<Vec<Finished>>>> {
        let live = self.live()?;
        let parts: Vec<_> = by_partition(&live, items.iter().map(|(key, _)| key)).collect();
        // Acks make room: they have twice as much of it in the journal.
        let most = 2 * self.shared.settings.journal_records;
        let calls = parts.iter().map(|(partition, indexes)| {
            let mut call = live.within(&scripts::ACK, *partition, now_ms, 2 * indexes.len() + 1);
            call.cmd.arg(most);
            for n in indexes {
                let (key, position) = &items[*n];
                call.cmd.arg(codec::name(key)).arg(codec::asked(*position).as_slice());
            }
            call
        });
        let answers = live.link.run(Line::Calls, calls.collect()).await;
        let mut results: Vec<InboxResult<Vec<Finished>>> = items.iter().map(|_| Ok(Vec::new())).collect();
        for ((_, indexes), answer) in parts.into_iter().zip(answers) {
            match answer {
                Ok(Value::Array(done)) => {
                    for (n, _) in indexes.into_iter().zip(done).filter(|(_, d)| *d != Value::Int(1)) {
                        results[n] = Err(InboxError::Absent);
                    }
                }
                Ok(other) => return Err(unexpected(&other)),
                Err(e) => {
                    let e = self.failed(&live, e);
                    indexes.into_iter().for_each(|n| results[n] = Err(e.clone()));
                }
            }
        }
        Ok(results)
    }

    async fn recall(&self, key: &InboxKey, id: MessageId, now_ms: u64) -> InboxResult<Option<Finished>> {
        let live = self.live()?;
        let mut call = live.about(&scripts::RECALL, key, now_ms, 1);
        call.cmd.arg(id.0.to_be_bytes().as_slice());
        match self.call(&live, Line::Calls, call).await? {
            Value::Nil => Ok(None),
            Value::BulkString(row) => {
                let row = row.first_chunk().map(|row| Row(i64::from_be_bytes(*row)));
                Ok(row.map(|row| Finished { key: key.clone(), row, state: State::Recalled }))
            }
            _ => Err(InboxError::Absent),
        }
    }

    async fn depth(&self, key: &InboxKey, now_ms: u64) -> InboxResult<u64> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("d");
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        number(values.first()).ok_or(InboxError::Absent)
    }

    async fn overdue(&self, now_ms: u64, patience_ms: u64, max: usize) -> InboxResult<Vec<InboxKey>> {
        let live = self.live()?;
        let mine: Vec<u32> = (0..live.bases.len() as u32).filter(|p| (self.shared.mine)(*p)).collect();
        if mine.is_empty() {
            return Ok(Vec::new());
        }
        let share = (max / mine.len()).max(1);
        let calls = mine.iter().map(|partition| {
            let mut call = live.within(&scripts::OVERDUE, *partition, now_ms, 2);
            call.cmd.arg(patience_ms).arg(share);
            call
        });
        let mut keys = Vec::new();
        for answer in live.link.run(Line::Calls, calls.collect()).await {
            let answer = answer.map_err(|e| self.failed(&live, e))?;
            let Value::Array(names) = answer else { return Err(unexpected(&answer)) };
            keys.extend(names.iter().filter_map(|name| match name {
                Value::BulkString(name) => codec::key(name),
                _ => None,
            }));
        }
        Ok(keys)
    }

    async fn waiting(&self, key: &InboxKey, now_ms: u64) -> InboxResult<Option<Waiting>> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("w");
        let answer = self.call(&live, Line::Calls, call).await?;
        let Value::Array(values) = answer else { return Err(unexpected(&answer)) };
        if values.is_empty() {
            return Err(InboxError::Absent);
        }
        let (Some(seq), Some(Value::BulkString(id))) = (number(values.get(1)), values.get(2)) else {
            return Ok(None);
        };
        let reaches = Position { epoch: live.epoch, seq: Seq(seq) };
        Ok(id.first_chunk().map(|id| Waiting { reaches, id: MessageId(u64::from_be_bytes(*id)) }))
    }

    async fn watch(&self, key: &InboxKey, now_ms: u64) -> InboxResult<()> {
        let live = self.live()?;
        let mut call = live.about(&scripts::LOOK, key, now_ms, 1);
        call.cmd.arg("p");
        self.call(&live, Line::Calls, call).await.map(drop)
    }

    async fn upkeep(&self, now_ms: u64) -> InboxResult<Upkeep> {
        let live = self.live()?;
        let infos = live.link.info().await.map_err(|e| self.failed(&live, e))?;
        self.shared.perils.look(&infos);
        let pressed =
            link::memory(&infos).is_some_and(|(used, most)| used.saturating_mul(1000) / most >= PRESSURE);
        let now_s = now_ms / 1000;
        let idle_s = if pressed { now_s } else { now_s.saturating_sub(self.shared.settings.idle.as_secs()) };
        let mut done = Upkeep::default();
        for partition in (0..live.bases.len() as u32).filter(|p| (self.shared.mine)(*p)) {
            let one = self.evict(&live, partition, idle_s, now_ms).await?;
            done.visited += one.visited;
            done.evicted += one.evicted;
        }
        Ok(done)
    }
}
