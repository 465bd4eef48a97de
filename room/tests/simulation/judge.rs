//! What the users do, and the verdict at the end of a run.

use std::collections::BTreeMap;

use audience::Slice;
use room::exchange::{Credit, Fate, KickOrder, KickWhy, LogEntry};
use wire::id::{AppId, BindingId};

use super::world::{Act, Event, World};

impl World {
    pub(crate) fn act(&mut self, act: &Act) {
        match *act {
            Act::Push(user) => {
                self.next_id += 1;
                let (id, now) = (self.next_id, self.now);
                let user_state = &mut self.users[user];
                user_state.pushed.push(id);
                let entry = user_state.inbox.append(id, now);
                self.tell_of(user, entry, false);
            }
            Act::Expire(user) => {
                let user = &mut self.users[user];
                let pick = self.dice.below(user.inbox.entries.len().max(1) as u64) as usize;
                if pick < user.inbox.entries.len() {
                    let entry = user.inbox.entries.remove(pick);
                    user.expired.insert(entry.id);
                }
            }
            Act::Rebuild(user) => self.users[user].inbox.rebuild(),
            Act::Kick(user) => {
                if let Some((fence, life)) = self.users[user].session.take() {
                    let (app, uid) = (AppId(self.users[user].app as u32 + 1), self.users[user].uid.clone());
                    self.soon(Event::Kick(life, KickOrder { app, uid, fence, why: KickWhy::Kicked }));
                }
            }
            Act::Broadcast(app, audience, lives_ms) => {
                self.next_id += 1;
                let expires = lives_ms.map_or(0, |ms| self.clock().unix_ms + ms);
                self.publish(app, self.next_id, audience, Slice::WHOLE, expires);
            }
            Act::Paced(app, audience, slices, pace) => {
                self.next_id += 1;
                for number in 0..slices {
                    let edge = |number: u64| (number << 32) / slices;
                    let below = if number + 1 == slices { 0 } else { edge(number + 1) };
                    let slice = Slice::new(edge(number), below).unwrap();
                    self.at(number * pace, Event::Slice(app, audience, self.next_id, slice));
                }
            }
            Act::Forget => {
                let now = self.now;
                self.users.iter_mut().for_each(|user| user.forget_unwritten(now));
            }
            Act::Up(device) => self.send_data(device),
            Act::Cut(device, half_open) => {
                if let Some(line) = self.devices[device].line {
                    self.half_open(line, half_open);
                    self.break_line(line);
                }
            }
            Act::Freeze(device, ms) => self.freeze(device, ms, true),
            Act::Pause(device, ms) => self.freeze(device, ms, false),
            Act::Unbind(device) => {
                let last = self.devices[device].seen.keys().max().copied();
                if let Some(binding) = last.filter(|binding| *binding > 1) {
                    self.devices[device].session.unbind(BindingId(binding));
                    self.pump(device);
                }
            }
            Act::Drain(room) => self.drain(room),
            Act::Crash(room) => self.crash(room),
        }
    }

    /// An entry of a log is stored, and the rooms are told or not.
    pub(crate) fn publish(&mut self, app: usize, id: u64, audience: &str, slice: Slice, expires_ms: u64) {
        let skip = self.dice.below(2);
        self.logs[app].append(id, audience, slice, expires_ms, skip);
        for room in 0..self.rooms.len() {
            if !self.chance(self.weather.lose) {
                self.keep_up(app, room);
            }
        }
    }

    /// The faults are over: in the end everybody has everything, and nothing is left behind.
    pub(crate) fn settle(&mut self) {
        self.weather.clear();
        self.part();
        for _ in 0..400 {
            self.pass(1_000);
            if self.open_questions().is_empty() {
                break;
            }
        }
        let open = self.open_questions();
        assert!(open.is_empty(), "{}", open.join("\n"));
        self.judge_sums();
        self.go_to_rest();
        self.judge_counts();
    }

    /// Everybody has gone: each broadcast up to a user's cursor that was meant for it is counted, once and as what it was.
    fn judge_counts(&self) {
        for device in &self.devices {
            for seen in device.seen.values().filter(|seen| !seen.shared) {
                let user = &self.users[seen.user];
                let Some(cursor) = user.cursor else { continue };
                let log = &self.logs[user.app];
                let meant = log.meant_for(&user.uid, &seen.tags).acked(log.cursor(user.began), cursor);
                let mut counted = user.counted.clone();
                counted.sort_unstable();
                let ids = |credits: &[Credit]| credits.iter().map(|one| one.id).collect::<Vec<_>>();
                assert_eq!(ids(&counted), ids(&meant), "{} is at {cursor:?}", user.uid);
                for credit in counted {
                    let expires = log.entries().any(|one| one.id == credit.id && one.expires_ms > 0);
                    match credit.fate {
                        // At a bind all up to the device's own place counts as acked, also what had expired on the way there.
                        Fate::Acked => {
                            assert!(expires || device.broadcasts.contains(&credit.id.0), "{credit:?}");
                        }
                        Fate::Expired => assert!(expires, "{credit:?}"),
                        Fate::Recalled => panic!("nothing was taken back: {credit:?}"),
                    }
                }
            }
        }
    }

    /// Each user that an entry is meant for is counted: by the archive, if its kept cursor has passed the entry, or by the room
    /// where it is.
    fn judge_sums(&mut self) {
        // Told again only when what has been kept is old.
        if self.untold && self.limits.keep_ms > 10_000 {
            return;
        }
        for _ in 0..60 {
            self.pass(1_000);
            if self.wrong_sums().is_empty() {
                return;
            }
        }
        panic!("{}", self.wrong_sums().join("\n"));
    }

    fn wrong_sums(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (app, log) in self.logs.iter().enumerate() {
            let mut sums: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            let all = self.devices.iter().flat_map(|device| device.seen.values());
            let all: Vec<_> = all.filter(|seen| self.users[seen.user].app == app).collect();
            if all.iter().any(|seen| seen.shared) {
                // Two devices of a user may have different tags.
                continue;
            }
            for seen in all {
                let user = &self.users[seen.user];
                let Some(kept) = user.cursor else { continue };
                let is_here = user.session.is_some_and(|(_, life)| self.is_alive(life));
                // What expires while two rooms hold a user may be counted by both, until the newer one tells.
                let counts = |entry: &&LogEntry| {
                    entry.bseq > user.began && entry.expires_ms == 0 && (is_here || entry.bseq <= kept.bseq.0)
                };
                for entry in log.entries().filter(counts) {
                    sums.entry(entry.id.0).or_default().0 +=
                        u64::from(log.is_meant(entry, &user.uid, &seen.tags));
                }
                let lasts = |id| log.entries().any(|entry| entry.id == id && entry.expires_ms == 0);
                for credit in user.counted.iter().filter(|credit| lasts(credit.id)) {
                    sums.entry(credit.id.0).or_default().1 += 1;
                }
            }
            for (id, (wanted, counted)) in sums {
                let here: u64 = self.rooms.iter().map(|room| room.sessions.progress(id).targets()).sum();
                if wanted != counted + here {
                    wrong.push(format!("broadcast {id}: of {wanted} {counted} are kept, {here} are here"));
                }
            }
        }
        wrong
    }

    /// Of devices that have taken a user from each other one keeps it.
    fn part(&mut self) {
        for number in 0..self.devices.len() {
            let shared: Vec<u32> = self.devices[number]
                .seen
                .iter()
                .filter(|(_, seen)| seen.shared && !seen.keeps)
                .map(|(binding, _)| *binding)
                .collect();
            for binding in shared {
                self.devices[number].over.remove(&binding);
                self.devices[number].session.unbind(BindingId(binding));
                self.pump(number);
            }
        }
    }

    /// What has still to come about.
    fn open_questions(&self) -> Vec<String> {
        let mut open = Vec::new();
        for user in &self.users {
            let held = self.devices.iter().flat_map(|device| device.seen.values());
            let held = held.filter(|seen| !seen.left && std::ptr::eq(&self.users[seen.user], user)).count();
            let lost: Vec<_> = user
                .pushed
                .iter()
                .filter(|id| !user.seen.contains(id) && !user.expired.contains(id))
                .collect();
            if held > 0 && !lost.is_empty() {
                open.push(format!("{} has not got {lost:?}", user.uid));
            }
            // An ack in a numbering that has passed is dropped when too many wait; the next bind makes up for it.
            let excused = user.inbox.epoch > 1 && self.limits.asks < self.users.len();
            if held > 0 && !user.inbox.entries.is_empty() && !excused {
                open.push(format!("of {} wait {:?}", user.uid, user.inbox.entries));
            }
        }
        for (number, device) in self.devices.iter().enumerate() {
            for seen in device.seen.values().filter(|seen| !seen.left && !seen.shared) {
                let lost = self.missing_broadcasts(number, seen);
                if !lost.is_empty() {
                    open.push(format!(
                        "device {number}: broadcasts {lost:?} of {}",
                        self.users[seen.user].uid
                    ));
                }
            }
            if !device.over.is_empty() {
                open.push(format!("device {number} binds again"));
            }
        }
        if self.has_ups() {
            open.push("upstream data is not answered".to_owned());
        }
        open
    }

    fn missing_broadcasts(&self, device: usize, seen: &super::device::Seen) -> Vec<u64> {
        let Some(first) = seen.first else { return vec![0] };
        let log = &self.logs[self.users[seen.user].app];
        let uid = &self.users[seen.user].uid;
        let wanted = log.entries().filter(|entry| {
            let meant = log.is_meant(entry, uid, &seen.tags);
            entry.bseq > first.bseq.0 && entry.expires_ms == 0 && meant
        });
        let got = |id: u64| self.devices[device].broadcasts.contains(&id);
        wanted.map(|entry| entry.id.0).filter(|id| !got(*id)).collect()
    }

    /// Everybody goes, in good order or not, and nothing stays: no binding, no question, no timer.
    fn go_to_rest(&mut self) {
        self.over = true;
        for number in 0..self.devices.len() {
            if self.chance(50) {
                self.close_device(number);
            } else {
                self.act(&Act::Cut(number, false));
            }
        }
        for _ in 0..1_000 {
            self.pass(1_000);
            let rests = |room: &super::rooms::Room| room.sessions.census().is_empty();
            if self.rooms.iter().all(rests) && self.users.iter().all(|user| user.session.is_none()) {
                return;
            }
        }
        for room in &self.rooms {
            assert!(room.sessions.census().is_empty(), "left behind: {:#?}", room.sessions.census());
        }
        for user in &self.users {
            assert!(user.session.is_none(), "the register still has {}: {:?}", user.uid, user.session);
        }
    }
}
