//! The door in virtual time: nothing here waits.

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use proptest::prelude::*;

use super::*;

fn ip(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0A00_0000 + n).into()
}

fn networks(text: &[&str]) -> Networks {
    let all: Vec<ipnet::IpNet> = text.iter().map(|text| text.parse().unwrap()).collect();
    Networks::new(&all)
}

#[test]
fn a_ticket_is_four_bytes() {
    assert_eq!(size_of::<Ticket>(), 4);
    assert!(!Ticket::NONE.is_greeting() && Ticket::NONE.place().is_none());
    let uncounted = Ticket::new(None);
    assert!(uncounted.is_greeting() && uncounted.place().is_none() && uncounted != Ticket::NONE);
    let last = Place(Place::MAX);
    assert_eq!(Ticket::new(Some(last)).place(), Some(last));
}

#[test]
fn lists_are_asked_first_and_can_change() {
    let now = Instant::now();
    let admission = Admission::new(Rules::default(), 10, now);
    let enter = |n| admission.enter(ip(n), now).map(|ticket| admission.leave(ticket, now));
    assert_eq!(enter(1), Ok(()));
    admission.set_rules(Rules { deny: networks(&["10.0.0.1/32"]), ..Rules::default() });
    assert_eq!((enter(1), enter(2)), (Err(Reason::Denied), Ok(())));
    let allow = networks(&["10.0.0.0/30"]);
    admission.set_rules(Rules { allow: allow.clone(), ..Rules::default() });
    assert_eq!((enter(1), enter(2), enter(4)), (Ok(()), Ok(()), Err(Reason::Denied)));
    admission.set_rules(Rules { allow, deny: networks(&["10.0.0.2/31"]), ..Rules::default() });
    assert_eq!((enter(1), enter(2)), (Ok(()), Err(Reason::Denied)), "denied although allowed");
    assert_eq!((admission.connections(), admission.handshakes()), (0, 0));
}

#[test]
fn a_room_is_full_at_its_bound() {
    let now = Instant::now();
    let admission = Admission::new(Rules::default(), 2, now);
    let tickets = [1, 2].map(|n| admission.enter(ip(n), now).unwrap());
    assert_eq!(admission.enter(ip(3), now), Err(Reason::Full));
    admission.leave(tickets[0], now);
    assert!(admission.enter(ip(3), now).is_ok());
    assert_eq!(admission.addresses(), 0, "without limits for addresses none is counted");
}

#[test]
fn handshakes_end_once() {
    let now = Instant::now();
    let rules = || Rules { handshakes_in_progress: Some(1), ..Rules::default() };
    let admission = Admission::new(rules(), 10, now);
    let mut first = admission.enter(ip(1), now).unwrap();
    assert_eq!(admission.enter(ip(2), now), Err(Reason::Handshakes));
    admission.greeted(&mut first);
    admission.greeted(&mut first);
    let second = admission.enter(ip(2), now).unwrap();
    admission.leave(first, now);
    assert_eq!(admission.handshakes(), 1);
    admission.leave(second, now);
    assert_eq!((admission.connections(), admission.handshakes()), (0, 0));
}

/// One address that hammers at the door would use up the rate of all if it were asked about that first.
#[test]
fn an_address_over_its_rate_takes_nothing_from_the_others() {
    let now = Instant::now();
    let rules =
        Rules { handshakes_per_second: Some(10), handshakes_per_second_per_ip: Some(2), ..Rules::default() };
    let admission = Admission::new(rules, 1_000, now);
    let enter = |n, now| admission.enter(ip(n), now).map(|ticket| admission.leave(ticket, now));
    let hammered: Vec<_> = (0..100).map(|_| enter(1, now)).collect();
    assert_eq!(hammered.iter().filter(|result| result.is_ok()).count(), 2);
    assert!(hammered[2..].iter().all(|result| *result == Err(Reason::IpRate)));
    let others: Vec<_> = (2..20).map(|n| enter(n, now)).collect();
    assert_eq!(others.iter().filter(|result| result.is_ok()).count(), 8);
    assert!(others[8..].iter().all(|result| *result == Err(Reason::Rate)));
    // Those whom the rate of all refused have lost no token of their own.
    let later = now + Duration::from_millis(200);
    assert_eq!((enter(15, later), enter(15, later)), (Ok(()), Ok(())));
    for _ in 0..64 {
        admission.sweep(now + Duration::from_secs(5));
    }
    assert_eq!(admission.addresses(), 0);
}

#[test]
fn limits_can_be_set_while_connections_are_there() {
    let now = Instant::now();
    let admission = Admission::new(Rules::default(), 10, now);
    let early = admission.enter(ip(1), now).unwrap();
    admission.set_rules(Rules { connections_per_ip: Some(1), ..Rules::default() });
    let counted = admission.enter(ip(1), now).unwrap();
    assert_eq!(admission.enter(ip(1), now), Err(Reason::IpConnections));
    admission.leave(early, now);
    assert_eq!(admission.enter(ip(1), now), Err(Reason::IpConnections));
    admission.set_rules(Rules::default());
    admission.leave(counted, now);
    assert_eq!((admission.addresses(), admission.connections(), admission.handshakes()), (0, 0, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u32),
    Greet(usize),
    Leave(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u32..5).prop_map(Step::Enter),
        2 => any::<usize>().prop_map(Step::Greet),
        3 => any::<usize>().prop_map(Step::Leave),
        1 => (0u64..800).prop_map(Step::Pass),
    ]
}

/// What a list of all connections says.
#[derive(Debug, Default)]
struct Model {
    open: Vec<(u32, bool, Ticket)>,
}

impl Model {
    fn of(&self, n: u32) -> (usize, usize) {
        let own = || self.open.iter().filter(move |(owner, ..)| *owner == n);
        (own().count(), own().filter(|(_, greeting, _)| *greeting).count())
    }
}

proptest! {
    /// Whatever comes and goes, what is counted is what is there, and who is refused is over a bound.
    #[test]
    fn counts_are_right(steps in prop::collection::vec(step(), 1..200)) {
        let mut now = Instant::now();
        let rules = Rules {
            deny: networks(&["10.0.0.4/32"]),
            connections_per_ip: Some(4),
            handshakes_in_progress: Some(6),
            handshakes_in_progress_per_ip: Some(3),
            handshakes_per_second: Some(40),
            handshakes_per_second_per_ip: Some(20),
            ..Rules::default()
        };
        let admission = Admission::new(rules, 10, now);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Pass(ms) => {
                    now += Duration::from_millis(ms);
                    admission.sweep(now);
                }
                Step::Greet(which) => {
                    let count = model.open.len().max(1);
                    if let Some((_, greeting, ticket)) = model.open.get_mut(which % count) {
                        *greeting = false;
                        admission.greeted(ticket);
                    }
                }
                Step::Leave(which) => if !model.open.is_empty() {
                    let (_, _, ticket) = model.open.swap_remove(which % model.open.len());
                    admission.leave(ticket, now);
                },
                Step::Enter(n) => {
                    let (own, own_greeting) = model.of(n);
                    let greeting = model.open.iter().filter(|(_, greeting, _)| *greeting).count();
                    let expected = match () {
                        () if n == 4 => Some(Reason::Denied),
                        () if model.open.len() == 10 => Some(Reason::Full),
                        () if greeting == 6 => Some(Reason::Handshakes),
                        () if own == 4 => Some(Reason::IpConnections),
                        () if own_greeting == 3 => Some(Reason::IpHandshakes),
                        () => None,
                    };
                    match (admission.enter(ip(n), now), expected) {
                        (Ok(ticket), None) => model.open.push((n, true, ticket)),
                        (Err(reason), Some(expected)) => prop_assert_eq!(reason, expected),
                        (Err(Reason::IpRate | Reason::Rate), None) => {}
                        (got, expected) => prop_assert!(false, "{got:?}, expected {expected:?}"),
                    }
                }
            }
            let greeting = model.open.iter().filter(|(_, greeting, _)| *greeting).count();
            prop_assert_eq!((admission.connections(), admission.handshakes()), (model.open.len(), greeting));
            let owners: HashMap<u32, ()> = model.open.iter().map(|(owner, ..)| (*owner, ())).collect();
            prop_assert!(admission.addresses() >= owners.len());
        }
        for (_, _, ticket) in model.open {
            admission.leave(ticket, now);
        }
        for _ in 0..64 {
            admission.sweep(now + Duration::from_secs(2));
        }
        prop_assert_eq!((admission.connections(), admission.handshakes(), admission.addresses()), (0, 0, 0));
    }
}
