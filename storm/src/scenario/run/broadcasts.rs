//! A phase of broadcasts.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use proto::v1;

use super::work::{Ground, Outcome, Part};
use crate::{
    clock::Clock,
    fleet::Counts,
    latency::Latencies,
    load::Failure,
    pacing::Pacer,
    payload::{EVERYONE, Header},
    report::Sent,
    scenario::{
        broadcast::{priority, takes},
        script::Broadcast,
    },
};

/// Between two looks at whether a broadcast is complete; beside the milliseconds that a round of thousands takes, little.
const TURN: Duration = Duration::from_millis(1);

/// Calls to the centers under way at most, when broadcasts are sent by the clock whatever becomes of them.
const CALLS: usize = 256;

struct Answer {
    number: u64,
    devices: u64,
    took: Duration,
    result: Result<(), Failure>,
}

pub(super) async fn run(ground: Ground, plan: Broadcast, part: Part) -> anyhow::Result<Outcome> {
    let (centers, clock) = (ground.centers()?.clone(), Clock::start());
    let start = Instant::now();
    let mut pacer = plan.every.map(|every| Pacer::new(start, 1.0 / every.as_secs_f64()));
    let most = plan.outstanding.unwrap_or(if pacer.is_some() { u64::MAX } else { 1 }).max(1);
    let mut window = Window::new(&ground.counts.counts(), &ground.spec, ground.totals.owed());
    // Those that are under way at once do not come to all devices in the same order.
    window.exact &= plan.users_per_second.is_none();
    let patience = plan.patience + takes(ground.spec.count, plan.users_per_second);
    let mut calls = FuturesUnordered::new();
    let (mut sent, mut accept, mut failures) = (Sent::default(), Latencies::default(), BTreeMap::new());
    let (mut begun, mut progress) = (0, Instant::now());
    loop {
        let counts = ground.counts.counts();
        if window.look(&counts) {
            progress = Instant::now();
        }
        let over = part.cancel.is_cancelled() || plan.count.is_some_and(|count| begun >= count);
        let may = !over && window.outstanding() < most && calls.len() < CALLS;
        let due = pacer.as_ref().is_none_or(|pacer| pacer.due(Instant::now()) > 0);
        if may && due {
            let at = pacer.as_mut().map_or_else(Instant::now, Pacer::take);
            begun += 1;
            let number = ground.totals.next_broadcast();
            // Who is bound once has its cursor, and gets what is sent from then on even if it is away now.
            let devices = counts.ever_bound.saturating_sub(counts.gone);
            window.sent(number, devices);
            let header = Header { run: ground.spec.run, user: EVERYONE, number, sent_ns: clock.ns(at) };
            let request = v1::BroadcastRequest {
                app: centers.app().to_owned(),
                payload: header.payload(plan.payload),
                ttl_s: plan.ttl,
                audience: plan.audience.clone(),
                users_per_second: plan.users_per_second.unwrap_or(0),
                priority: priority(plan.urgent).into(),
                ..Default::default()
            };
            let centers = centers.clone();
            calls.push(async move {
                let result = centers.broadcast(request).await.map(drop);
                Answer { number, devices, took: at.elapsed(), result }
            });
            continue;
        }
        let stuck = window.outstanding() > 0 && progress.elapsed() > patience;
        if calls.is_empty() && (over && (window.outstanding() == 0 || part.cancel.is_cancelled()) || stuck) {
            break;
        }
        tokio::select! {
            Some(answer) = calls.next() => {
                progress = Instant::now();
                note(answer, &ground, &mut window, &mut sent, &mut accept, &mut failures);
                part.tell(sent);
            }
            () = tokio::time::sleep(TURN) => {}
        }
    }
    for (code, count) in failures {
        ground.totals.failed(&code, count);
    }
    let left = window.outstanding();
    let note = if left > 0 { format!("{left} broadcasts were not complete") } else { String::new() };
    Ok(Outcome { accept, note, ..Outcome::default() })
}

fn note(
    answer: Answer,
    ground: &Ground,
    window: &mut Window,
    sent: &mut Sent,
    accept: &mut Latencies,
    failures: &mut BTreeMap<String, u64>,
) {
    match answer.result {
        Ok(()) => {
            sent.broadcasts += 1;
            accept.record(answer.took);
            ground.totals.promise(answer.number, answer.devices);
        }
        Err(failure) => {
            sent.failed += 1;
            window.failed(answer.number, answer.devices);
            *failures.entry(failure.code).or_default() += 1;
        }
    }
}

/// Which broadcasts not everybody has yet.
///
/// While every device of the fleet gets every broadcast, the workers say exactly up to which all have them. After a
/// broadcast to a part of the fleet they cannot, and then the deliveries are counted: exact for one outstanding, and for
/// several as good as that.
#[derive(Debug)]
struct Window {
    exact: bool,
    /// Number and, added up, the deliveries by which it is complete.
    open: VecDeque<(u64, u64)>,
    owed: u64,
    seen: (u64, u64),
}

impl Window {
    fn new(counts: &Counts, spec: &crate::fleet::FleetSpec, owed: u64) -> Self {
        let devices = u64::from(spec.count);
        let exact = counts.ever_bound >= devices && counts.broadcasts_complete * devices >= owed;
        Self { exact, open: VecDeque::new(), owed: counts.broadcasts.max(owed), seen: (0, 0) }
    }

    fn sent(&mut self, number: u64, devices: u64) {
        self.owed += devices;
        self.open.push_back((number, self.owed));
    }

    /// Nobody will get it, and the workers' numbers have a hole from now on.
    fn failed(&mut self, number: u64, devices: u64) {
        self.exact = false;
        self.owed -= devices;
        self.open.retain(|(open, _)| *open != number);
        self.open.iter_mut().filter(|(open, _)| *open > number).for_each(|(_, owed)| *owed -= devices);
    }

    /// Whether anything has come since the last look.
    fn look(&mut self, counts: &Counts) -> bool {
        let exact = self.exact;
        let done = |(number, owed): &(u64, u64)| {
            if exact { *number <= counts.broadcasts_complete } else { *owed <= counts.broadcasts }
        };
        while self.open.front().is_some_and(done) {
            self.open.pop_front();
        }
        let seen = (counts.broadcasts, counts.broadcasts_complete);
        std::mem::replace(&mut self.seen, seen) != seen
    }

    fn outstanding(&self) -> u64 {
        self.open.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::example;

    #[test]
    fn a_window_is_exact_while_all_devices_get_all() {
        let all = Counts { ever_bound: 10, ..Counts::default() };
        let mut window = Window::new(&all, &example(), 0);
        window.sent(1, 10);
        window.sent(2, 10);
        // 15 deliveries, but not the first at everybody.
        assert!(window.look(&Counts { broadcasts: 15, ..all }));
        assert_eq!(window.outstanding(), 2);
        window.look(&Counts { broadcasts: 15, broadcasts_complete: 1, ..all });
        assert_eq!(window.outstanding(), 1);
    }

    #[test]
    fn a_window_over_a_part_of_the_fleet_counts_deliveries() {
        let part = Counts { ever_bound: 4, broadcasts: 8, ..Counts::default() };
        let mut window = Window::new(&part, &example(), 8);
        window.sent(3, 4);
        window.sent(4, 4);
        window.failed(3, 4);
        assert_eq!(window.outstanding(), 1);
        assert!(window.look(&Counts { broadcasts: 12, ..part }));
        assert!(!window.look(&Counts { broadcasts: 12, ..part }));
        assert_eq!(window.outstanding(), 0);
    }
}
