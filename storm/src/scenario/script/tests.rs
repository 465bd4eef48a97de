use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Script, ScriptError> {
    Script::parse(text, &[])
}

fn said(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

const HOLD: &str = "[[phase]]\nkind = 'hold'\nduration = '1s'\n";

#[test]
fn the_examples_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = Script::load(&path, &[]).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(!script.description.is_empty(), "{} does not say what it is for", path.display());
        assert_eq!(Script::parse(&script.to_toml(), &[]).unwrap(), script);
        names.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    let wanted = [
        "broadcast",
        "churn",
        "connect-storm",
        "drain",
        "hundred-thousand",
        "million",
        "mixed",
        "paced",
        "slow-readers",
        "steady",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn settings_lie_over_the_file() {
    let settings =
        ["fleet.users=7".to_owned(), "phase.hold.duration=2s".to_owned(), "line.slow=0.5".to_owned()];
    let script = Script::parse(&format!("[fleet]\nusers = 5\n{HOLD}"), &settings).unwrap();
    assert_eq!((script.fleet.users, script.fleet.line.slow), (7, 0.5));
    assert_eq!(script.phases[0].when.duration, Some(Duration::from_secs(2)));
}

#[test]
fn keys_may_be_written_as_the_flags_are() {
    let script = parse(&format!("[fleet]\nuid-prefix = 'u'\nack-delay = '5ms'\n{HOLD}")).unwrap();
    assert_eq!((script.fleet.uid_prefix.as_str(), script.fleet.ack_delay), ("u", Duration::from_millis(5)));
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    assert_eq!(said("flet = 1\n[[phase]]\nkind='ramp'\n"), "unknown key `flet`; did you mean `fleet`?");
    assert_eq!(
        said(&format!("[fleet]\nuser = 1\n{HOLD}")),
        "fleet: unknown key `user`; did you mean `users`?"
    );
    assert_eq!(
        said("[[phase]]\nname = 'load'\nkind = 'unicast'\nrat = 5\nduration = '1s'\n"),
        "phase `load`: unknown key `rat`; did you mean `rate`?"
    );
    assert_eq!(
        said("[[phase]]\nkind = 'hold'\ndurations = '1s'\n"),
        "phase 0 (hold): unknown key `durations`; did you mean `duration`?"
    );
    assert_eq!(
        said("[[phase]]\nkind = 'unicats'\nduration = '1s'\n"),
        "phase 0 (unicats): unknown kind `unicats`; did you mean `unicast`?"
    );
    assert_eq!(
        said(&format!("[expect]\np99 = 3\n{HOLD}")),
        "expect: unknown key `p99`; did you mean `p99_ms`?"
    );
    assert!(
        said("[[phase]]\nkind='ramp'\nexpect = { lots = 0 }\n")
            .starts_with("phase 0 (ramp), expect: unknown")
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    assert_eq!(said(""), "there is no [[phase]]");
    assert!(said("[phase]\nkind='ramp'\n").contains("[[phase]]"));
    assert!(said("[[phase]]\nname = 'x'\n").contains("`kind` is missing"));
    assert!(said("[[phase]]\nkind='hold'\n").contains("needs a `duration`"));
    assert!(said("[[phase]]\nkind='unicast'\nrate = 0\nduration='1s'\n").contains("more than 0"));
    assert!(said("[[phase]]\nkind='drain'\n").contains("exactly one of"));
    assert!(said("[[phase]]\nkind='drain'\nrpc='127.0.0.1:1'\nrpc_ca='a'\n").contains("go together"));
    assert!(said("[[phase]]\nkind='churn'\nshare=2\nduration='1s'\n").contains("share"));
    assert!(said("[[phase]]\nkind='hold'\nduration='1s'\nuntil='x'\n").contains("only one of"));
    assert!(
        said("[[phase]]\nname='a'\nkind='ramp'\n[[phase]]\nname='a'\nkind='ramp'\n")
            .contains("another phase")
    );
    assert!(said("[fleet]\nusers = 'many'\n[[phase]]\nkind='ramp'\n").contains("fleet: invalid type"));
    assert!(said("[fleet\n").contains("TOML"));
}

#[test]
fn secrets_are_not_printed() {
    let script = parse(&format!("[api]\nkey = 'lwk_x'\n[fleet]\nsecret = 'sesame'\n{HOLD}")).unwrap();
    let printed = script.to_toml();
    assert!(!printed.contains("lwk_x") && !printed.contains("sesame"), "{printed}");
}

fn durations() -> impl Strategy<Value = Duration> {
    (1u64..100_000_000).prop_map(Duration::from_millis)
}

fn expects() -> impl Strategy<Value = Expect> {
    (
        prop::option::of(0u64..1 << 40),
        prop::option::of(durations()),
        prop::option::of(0.001f64..1e6),
        prop::option::of(0.0f64..2.0),
    )
        .prop_map(|(lost, bound_within, p99_ms, floor_ratio)| Expect {
            lost,
            bound_within,
            p99_ms,
            floor_ratio,
            ..Expect::default()
        })
}

fn kinds() -> impl Strategy<Value = Kind> {
    let ramp =
        (prop::option::of(1u32..1 << 20), prop::option::of(0.1f64..1e5), prop::option::of(durations()))
            .prop_map(|(connections, rate, within)| Kind::Ramp(Ramp { connections, rate, within }));
    let unicast =
        (prop::option::of(0.1f64..1e6), prop::option::of(1u64..1 << 30), 0usize..70_000, any::<bool>())
            .prop_map(|(rate, window, payload, transient)| {
                Kind::Unicast(Unicast { rate, window, payload, transient, ..Unicast::default() })
            });
    let broadcast =
        (prop::option::of(durations()), prop::option::of(1u64..99), "[a-z &|()]{0,12}", durations())
            .prop_map(|(every, count, audience, patience)| {
                Kind::Broadcast(Broadcast { every, count, audience, patience, ..Broadcast::default() })
            });
    prop_oneof![
        ramp,
        unicast,
        broadcast,
        (0.001f64..1.0).prop_map(|share| Kind::Churn(Churn { share })),
        (0.001f64..1.0).prop_map(|share| Kind::Slow(Slow { share })),
        Just(Kind::Hold(Hold {})),
        (1u32..99_999, durations()).prop_map(|(pid, within)| Kind::Drain(Drain {
            pid: Some(pid),
            within,
            ..Drain::default()
        })),
        prop::collection::vec("[a-zA-Z\"' =-]{1,9}", 1..4)
            .prop_map(|command| Kind::Execute(Execute { command, ..Execute::default() })),
        Just(Kind::Floor(Floor::default())),
    ]
}

fn phases() -> impl Strategy<Value = Vec<Phase>> {
    let one = (kinds(), prop::option::of(durations()), durations(), 0u8..4, expects());
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let name = |index: usize| format!("phase-{index}");
        let one = |(index, (kind, delay, duration, begin, expect)): (usize, (Kind, _, _, u8, _))| {
            let mut when = When { delay, duration: Some(duration), ..When::default() };
            match (begin, index) {
                (1, 1..) => when.after = Some(name(index - 1)),
                (2, 1..) => when.with = Some(name(index - 1)),
                (3, _) => when.start = Some(duration),
                _ => {}
            }
            Phase { name: name(index), when, kind, expect }
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #[test]
    fn a_scenario_printed_and_parsed_again_is_the_same(
        name in "[a-zA-Z0-9 -]{0,12}", users in 1u32..2_000_000, seed in prop::option::of(0u64..1 << 62),
        slow in 0.0f64..1.0, settle in durations(), tags in prop::collection::vec("[a-z]{1,5}", 0..3),
        expect in expects(), phases in phases(),
    ) {
        let mut fleet = Devices { users, seed, tags, secret: None, ..Devices::default() };
        fleet.line.slow = slow;
        let api = Api { key: None, ..Api::default() };
        let run = RunTable { settle, ..RunTable::default() };
        let script = Script { name, description: "some\nlines".into(), fleet, api, run, expect, phases };
        let printed = script.to_toml();
        let again = Script::parse(&printed, &[]);
        prop_assert_eq!(again.map_err(|error| format!("{error}\n{printed}")), Ok(script));
    }
}
