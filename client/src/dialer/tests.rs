use super::*;
use wire::frame::CloseCode;

const NO_WAIT: Duration = Duration::ZERO;

fn dialer(source: Source, last_good: Option<&str>) -> Dialer {
    Dialer::new(source, Backoff::default(), last_good.map(Into::into), 1)
}

fn fixed(addresses: &[&str]) -> Source {
    Source::Fixed(addresses.iter().map(|&address| address.into()).collect())
}

fn dial(address: &str) -> Step {
    Step::Dial(address.into())
}

fn route(tried: &[&str]) -> Step {
    Step::Route { tried: tried.iter().map(|&address| address.into()).collect() }
}

fn addresses(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| name.into()).collect()
}

/// Waits as told; how long.
fn wait(dialer: &mut Dialer, now: &mut Moment) -> Duration {
    let Step::Wait(until) = dialer.step(*now) else { return NO_WAIT };
    let waited = until.since(*now);
    *now = until;
    waited
}

fn closed(code: CloseCode, retry_after_ms: u64) -> Ending {
    let retry_after = Duration::from_millis(retry_after_ms);
    Ending { retry_after, ..Cause::Closed { code, message: String::new() }.into() }
}

#[test]
fn last_good_first_then_the_dispatcher_with_tried() {
    let mut dialer = dialer(Source::Dispatcher, Some("old"));
    let mut now = Moment(0);
    assert_eq!(dialer.step(now), dial("old"));
    assert_eq!(dialer.step(now), Step::Busy);
    dialer.failed(now);
    assert_eq!(dialer.step(now), route(&["old"]));
    dialer.routed(addresses(&["a", "b"]), Duration::from_millis(40), now);
    assert_eq!(wait(&mut dialer, &mut now), Duration::from_millis(40));
    assert_eq!(dialer.step(now), dial("a"));
    dialer.failed(now);
    assert_eq!(dialer.step(now), dial("b"));
    dialer.connected(now);
    assert_eq!(dialer.step(now), Step::Busy);
    assert_eq!(dialer.last_good().map(AsRef::as_ref), Some("b"));
}

#[test]
fn rounds_back_off_and_begin_with_the_last_good() {
    let mut dialer = dialer(Source::Dispatcher, Some("old"));
    let mut now = Moment(0);
    let mut longest = NO_WAIT;
    for round in 0..12 {
        assert_eq!(dialer.step(now), dial("old"), "round {round}");
        dialer.failed(now);
        assert_eq!(dialer.step(now), route(&["old"]));
        dialer.failed(now);
        let waited = wait(&mut dialer, &mut now);
        assert!(waited >= Duration::from_millis(250 << round).min(Duration::from_secs(30)), "{waited:?}");
        longest = longest.max(waited);
    }
    assert!(longest <= Duration::from_secs(60));
}

#[test]
fn a_dispatcher_that_knows_none_is_asked_again_without_tried() {
    let mut dialer = dialer(Source::Dispatcher, None);
    let mut now = Moment(0);
    assert_eq!(dialer.step(now), route(&[]));
    dialer.routed(addresses(&["a"]), NO_WAIT, now);
    assert_eq!(dialer.step(now), dial("a"));
    dialer.failed(now);
    assert!(wait(&mut dialer, &mut now) > NO_WAIT);
    assert_eq!(dialer.step(now), route(&["a"]));
    dialer.routed([], NO_WAIT, now);
    assert!(wait(&mut dialer, &mut now) > NO_WAIT);
    assert_eq!(dialer.step(now), route(&[]));
}

#[test]
fn a_fixed_list_goes_round_with_the_failed_last() {
    let mut dialer = dialer(fixed(&["a", "b"]), None);
    let mut now = Moment(0);
    assert_eq!(dialer.step(now), dial("a"));
    dialer.connected(now);
    now = now + STABLE;
    dialer.ended(&closed(CloseCode::GoingAway, 0), now);
    wait(&mut dialer, &mut now);
    assert_eq!(dialer.step(now), dial("b"), "elsewhere");
    dialer.failed(now);
    assert_eq!(dialer.step(now), dial("a"), "but there is no other");
    dialer.failed(now);
    assert!(wait(&mut dialer, &mut now) > NO_WAIT);
}

#[test]
fn an_empty_list_stops() {
    assert_eq!(dialer(fixed(&[]), None).step(Moment(0)), Step::Stop);
}

#[test]
fn close_codes_are_followed() {
    let after = |ending: Ending, lived: Duration| {
        let mut dialer = dialer(Source::Dispatcher, Some("a"));
        let mut now = Moment(0);
        assert_eq!(dialer.step(now), dial("a"));
        dialer.connected(now);
        now = now + lived;
        dialer.ended(&ending, now);
        match dialer.step(now) {
            Step::Wait(until) => (until.since(now), dialer.step(until)),
            step => (NO_WAIT, step),
        }
    };
    let hour = Duration::from_secs(3600);
    let (waited, step) = after(closed(CloseCode::Busy, 7000), hour);
    assert_eq!((waited, step), (Duration::from_secs(7), route(&["a"])));
    let (waited, step) = after(closed(CloseCode::HeartbeatTimeout, 0), hour);
    assert!(waited <= Duration::from_millis(500) && step == dial("a"));
    let (_, step) = after(closed(CloseCode::BadVersion, 0), hour);
    assert_eq!(step, Step::Stop);
    let (waited, step) = after(Cause::Lost("reset".into()).into(), hour);
    assert!(waited > NO_WAIT && step == dial("a"));
    let moved = Ending { addresses: vec!["b".into()], ..Cause::Moved("drain".into()).into() };
    assert_eq!(after(moved.clone(), hour), (NO_WAIT, dial("b")));
    assert!(after(moved, NO_WAIT).0 > NO_WAIT, "a circle of moves backs off");
}

/// A room that takes connections and drops them at once must not be called in a tight circle.
#[test]
fn short_lives_back_off() {
    let mut dialer = dialer(fixed(&["a"]), None);
    let mut now = Moment(0);
    for _ in 0..10 {
        assert!(matches!(dialer.step(now), Step::Dial(_)));
        dialer.connected(now);
        dialer.ended(&Cause::Lost("reset".into()).into(), now);
        wait(&mut dialer, &mut now);
    }
    assert!(now >= Moment(60_000), "{now:?}");
}

#[test]
fn no_greeting_is_a_failed_address() {
    let mut dialer = dialer(fixed(&["a", "b"]), None);
    let now = Moment(0);
    assert_eq!(dialer.step(now), dial("a"));
    dialer.ended(&Cause::NoAnswer("Connect").into(), now);
    assert_eq!(dialer.step(now), dial("b"), "at once");
}
