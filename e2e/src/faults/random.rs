//! Which fault comes next.

use std::time::Duration;

use rand::{RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{Fault, Kept};
use crate::{Cut, Processes};

/// A fault, and how long it lasts. Only such as the cluster's layout allows.
pub fn random(dice: &mut StdRng, cluster: &Processes) -> (Fault, Duration) {
    let names = cluster.names();
    let any = |dice: &mut StdRng| names.choose(dice).cloned().unwrap_or_default();
    let where_it_can = |can: &dyn Fn(&str) -> bool, dice: &mut StdRng| {
        let able: Vec<_> = names.iter().filter(|name| can(name)).collect();
        able.choose(dice).map(|name| (*name).clone())
    };
    loop {
        // Seconds. The lease of a node is five: some faults end before it does, some after.
        let (fault, least, most) = match dice.random_range(0..20) {
            0..5 => (Fault::Kill(vec![any(dice)]), 0.0, 3.0),
            5 => {
                let (one, other) = (any(dice), any(dice));
                let both = if one == other { vec![one] } else { vec![one, other] };
                (Fault::Kill(both), 0.0, 8.0)
            }
            6..9 => (Fault::Pause(any(dice)), 0.5, 12.0),
            9 => (Fault::Redis(Kept::All), 0.0, 5.0),
            10 => (Fault::Redis(Kept::Nothing), 0.0, 3.0),
            11 => (Fault::PauseRedis, 0.5, 8.0),
            12 => (Fault::FailOver, 0.0, 3.0),
            13 => (Fault::MariaDb, 0.0, 5.0),
            14 => (Fault::PauseMariaDb, 0.5, 8.0),
            15 if dice.random_bool(0.5) => (Fault::EtcdLeader, 0.5, 8.0),
            15 => (Fault::PauseEtcdLeader, 0.5, 8.0),
            16 => (Fault::Etcd, 1.0, 15.0),
            17 if cluster.halves().is_err() => continue,
            17 => {
                let cut = if dice.random_bool(0.5) { Cut::Between } else { Cut::Isolated };
                (Fault::Network(cut), 1.0, 12.0)
            }
            18 => match where_it_can(&|name| cluster.clock(name).is_ok(), dice) {
                Some(name) => {
                    (Fault::Clock(name, if dice.random_bool(0.5) { "+1h" } else { "-1h" }), 2.0, 8.0)
                }
                None => continue,
            },
            _ => match where_it_can(&|name| cluster.proxy(name).is_ok(), dice) {
                Some(name) => (Fault::Slow(name), 1.0, 6.0),
                None => continue,
            },
        };
        return (fault, Duration::from_secs_f64(dice.random_range(least..most)));
    }
}
