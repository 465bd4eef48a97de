use proptest::prelude::*;

use super::*;

/// 2026-11-20 20:00 UTC.
const NOW: u64 = 1_795_204_800_000;
const AHEAD: Duration = Duration::from_secs(366 * 86_400);
const HOUR: u64 = 3_600_000;

fn at(at_ms: u64, local_time: &str, time_zone: &str) -> Result<Due> {
    let when = v1::When { at_ms, local_time: local_time.to_owned(), time_zone: time_zone.to_owned() };
    Due::parse(Some(&when), NOW, AHEAD)
}

#[test]
fn nothing_said_is_now() {
    assert_eq!(Due::parse(None, NOW, AHEAD).unwrap(), Due::Now);
    assert_eq!(at(0, "", "").unwrap(), Due::Now);
}

#[test]
fn moments_are_taken_as_they_are() {
    assert_eq!(at(NOW + 1, "", "").unwrap(), Due::At(NOW + 1));
    // Slow to come here, or a repeat.
    assert_eq!(at(NOW - HOUR, "", "").unwrap(), Due::At(NOW - HOUR));
}

#[test]
fn a_clock_shows_its_time_next_today_or_tomorrow() {
    assert_eq!(at(0, "21:30", "").unwrap(), Due::At(NOW + HOUR * 3 / 2));
    assert_eq!(at(0, "20:00", "").unwrap(), Due::At(NOW + 24 * HOUR), "it shows it now");
    // 21:00 in Berlin.
    assert_eq!(at(0, "09:00", "Europe/Berlin").unwrap(), Due::At(NOW + 12 * HOUR));
    assert_eq!(at(0, "2026-11-21T09:00", "Europe/Berlin").unwrap(), Due::At(NOW + 12 * HOUR));
    assert_eq!(at(0, "2026-11-21T09:00", "").unwrap(), Due::At(NOW + 13 * HOUR));
}

/// In the night of 2027-03-28 the clocks of Berlin go from 02:00 to 03:00; on 2026-10-25 they went from 03:00 to 02:00.
#[test]
fn clocks_that_change_skip_and_repeat() {
    let of = |text: &str| at(0, text, "Europe/Berlin").unwrap().first_ms();
    assert_eq!(of("2027-03-28T02:30"), of("2027-03-28T03:30"), "half past two is not there");
    assert_eq!(of("2027-03-28T03:00") - of("2027-03-28T01:59"), 60_000);
    assert_eq!(
        of("2027-10-31T03:00") - of("2027-10-31T02:00"),
        2 * HOUR,
        "two o'clock comes twice, the first is meant"
    );
}

#[test]
fn devices_have_clocks_of_their_own() {
    let Due::Local(minutes) = at(0, "2026-11-21T09:00", "device").unwrap() else { panic!("local") };
    assert_eq!(local_due_ms(minutes, 0), NOW + 13 * HOUR);
    assert_eq!(local_due_ms(minutes, 60), NOW + 12 * HOUR);
    assert_eq!(local_due_ms(minutes, 60 + 7), NOW + 12 * HOUR, "the next lower quarter");
    assert_eq!(first_due_ms(minutes), NOW - HOUR);
    // On the first clocks it is 10:00 of the 21st: they show 09:00 next on the 22nd.
    assert_eq!(at(0, "09:00", "device").unwrap(), Due::Local(minutes + DAY_MIN));
    assert_eq!(at(0, "10:01", "device").unwrap(), Due::Local(minutes + 61));
}

#[test]
fn errors_name_the_field() {
    for (when, field) in [
        (at(0, "", "Europe/Berlin"), "when.time_zone"),
        (at(0, "09:00", "Europe/Bärlin"), "when.time_zone"),
        (at(1, "09:00", ""), "when"),
        (at(1, "", ""), "when.at_ms"),
        (at(NOW / 1000, "", ""), "when.at_ms"),
        (at(u64::MAX, "", ""), "when.at_ms"),
        (at(NOW + 367 * 24 * HOUR, "", ""), "when.at_ms"),
        (at(0, "1969-01-01T00:00", "device"), "when.local_time"),
        (at(0, "2026-11-18T09:00", "device"), "when.local_time"),
        (at(0, "2029-11-21T09:00", ""), "when.local_time"),
    ] {
        assert_eq!(when.unwrap_err().field(), Some(field));
    }
    for text in [
        "9:00",
        "24:00",
        "09:60",
        "09:00:00",
        "09",
        ":",
        "T09:00",
        "2026-11-31T09:00",
        "2026-11-21 09:00",
        "+9:00",
    ] {
        assert_eq!(at(0, text, "").unwrap_err().field(), Some("when.local_time"), "{text}");
    }
    let start = v1::When { at_ms: 1, ..Default::default() };
    assert_eq!(Due::parse_in("start", Some(&start), NOW, AHEAD).unwrap_err().field(), Some("start.at_ms"));
}

#[test]
fn steps_go_over_all_offsets() {
    assert_eq!(STEPS, 105);
    assert_eq!((offset_of(0), offset_of(STEPS - 1)), (840, -720));
    for step in 0..STEPS {
        assert_eq!(step_of(offset_of(step)), step);
    }
    assert_eq!((step_of(i32::MAX), step_of(i32::MIN)), (0, STEPS - 1));
}

proptest! {
    /// Whatever is asked for: an error that names a field, or a time that is neither far past nor far ahead.
    #[test]
    fn anything_may_be_asked_for(at_ms: u64, local_time: String, time_zone: String, now_ms in 0..u64::MAX / 4) {
        let when = v1::When { at_ms, local_time, time_zone };
        match Due::parse(Some(&when), now_ms, AHEAD) {
            Ok(due) => prop_assert!(due == Due::Now || due.first_ms() <= now_ms + AHEAD.as_millis() as u64),
            Err(error) => prop_assert!(error.field().is_some_and(|field| field.starts_with("when"))),
        }
    }

    #[test]
    fn a_time_of_day_is_due_within_a_day(hour in 0u64..24, minute in 0u64..60, now_ms in NOW..NOW + 400 * 24 * HOUR) {
        let when = |time_zone: &str| v1::When { at_ms: 0, local_time: format!("{hour:02}:{minute:02}"), time_zone: time_zone.into() };
        let due = Due::parse(Some(&when("")), now_ms, AHEAD).unwrap();
        prop_assert!(due.first_ms() > now_ms && due.first_ms() <= now_ms + 24 * HOUR);
        let due = Due::parse(Some(&when("device")), now_ms, AHEAD).unwrap();
        prop_assert!(due.first_ms() + 60_000 > now_ms && due.first_ms() <= now_ms + 24 * HOUR);
    }
}
