//! What the writer does besides appends, and where in a transaction's answer each finds its own.

use proto::internal::App;
use wire::id::{AppId, Cursor, MessageId};

use crate::{
    archive::{
        ApiKey, AppRefused, Committed, Forget, Group, JobWrite, JobWritten, NewBroadcast, NewPart, Newcomer,
        Numbered, Reservation, Reserved,
    },
    model::{InboxKey, Row, State},
};

/// Whatever is not an append.
pub(super) enum Write {
    Newcomers(Vec<Newcomer>),
    Reserve(Reservation),
    /// The shared store does not know of it.
    ReserveUnseen(Reservation),
    Broadcast(NewBroadcast),
    RecallBroadcast(AppId, MessageId),
    Job(JobWrite),
    Offsets(Vec<(InboxKey, i16)>),
    Schedule(NewPart),
    Unschedule(AppId, MessageId, Option<u32>),
    PutApp(Box<App>),
    PutKey(ApiKey),
    Finish(Vec<(Row, State)>),
    Forget(Forget),
    Flush,
    Restart,
}

/// Its answer.
pub(super) enum Written {
    Cursors(Vec<Cursor>),
    Reserved(Reserved),
    Numbered(Numbered),
    Recalled(bool),
    Job(JobWritten),
    Repeated(bool),
    App(Result<App, AppRefused>),
    Key(bool),
    Count(u64),
    Done,
}

/// Where a write's answer will be found.
pub(super) enum Place {
    Newcomers(usize, usize),
    Reservation(usize),
    Broadcast(usize),
    BroadcastRecall(usize),
    Job(usize),
    Scheduled(usize),
    Unscheduled(usize),
    App(usize),
    Key(usize),
    Forgotten,
    Nothing,
}

impl Place {
    pub(super) fn add(group: &mut Group, write: Write) -> Self {
        match write {
            Write::Newcomers(list) => {
                let first = group.newcomers.len();
                group.newcomers.extend(list);
                Place::Newcomers(first, group.newcomers.len())
            }
            Write::Reserve(one) => Place::Reservation(push(&mut group.reservations, one)),
            Write::ReserveUnseen(one) => {
                group.unseen = true;
                Place::Reservation(push(&mut group.reservations, one))
            }
            Write::Broadcast(one) => Place::Broadcast(push(&mut group.broadcasts, one)),
            Write::RecallBroadcast(app, id) => {
                Place::BroadcastRecall(push(&mut group.broadcast_recalls, (app, id)))
            }
            Write::Offsets(news) => {
                group.offsets.extend(news);
                Place::Nothing
            }
            Write::Schedule(part) => Place::Scheduled(push(&mut group.scheduled, part)),
            Write::Unschedule(app, id, part) => {
                Place::Unscheduled(push(&mut group.unscheduled, (app, id, part)))
            }
            Write::Job(one) => Place::Job(push(&mut group.jobs, one)),
            Write::PutApp(app) => Place::App(push(&mut group.apps, *app)),
            Write::PutKey(key) => Place::Key(push(&mut group.keys, key)),
            Write::Finish(rows) => {
                group.finished.extend(rows);
                Place::Nothing
            }
            Write::Forget(forget) => {
                group.forget.unicast.extend(forget.unicast);
                group.forget.multicast.extend(forget.multicast);
                let over = &mut group.forget;
                over.reservations_before_ms = over.reservations_before_ms.max(forget.reservations_before_ms);
                over.broadcasts_before_ms = over.broadcasts_before_ms.max(forget.broadcasts_before_ms);
                Place::Forgotten
            }
            Write::Flush | Write::Restart => Place::Nothing,
        }
    }

    pub(super) fn answer(&self, done: &Committed) -> Written {
        match *self {
            Place::Newcomers(from, to) => Written::Cursors(done.newcomers[from..to].to_vec()),
            Place::Reservation(n) => Written::Reserved(done.reservations[n].clone()),
            Place::Broadcast(n) => Written::Numbered(done.broadcasts[n]),
            Place::BroadcastRecall(n) => Written::Recalled(done.broadcast_recalls[n]),
            Place::Scheduled(n) => Written::Repeated(done.scheduled[n]),
            Place::Unscheduled(n) => Written::Count(done.unscheduled[n]),
            Place::Job(n) => Written::Job(done.jobs[n].clone()),
            Place::App(n) => Written::App(done.apps[n].clone()),
            Place::Key(n) => Written::Key(done.keys[n]),
            Place::Forgotten => Written::Count(done.forgotten),
            Place::Nothing => Written::Done,
        }
    }
}

/// Adds to a list and tells where.
fn push<T>(list: &mut Vec<T>, one: T) -> usize {
    list.push(one);
    list.len() - 1
}
