use std::time::Duration;

use proto::internal::{Job, JobState};

use super::town::{BEGIN_MS, Town, job, rng};
use crate::when;

#[tokio::test(start_paused = true)]
async fn a_scheduled_job_begins_at_its_time() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 100, &mut rng).await;
    town.add_center(2).await;
    let starts_ms = BEGIN_MS + 3_600_000;
    town.put(Job { state: JobState::Scheduled.into(), starts_ms, ..job(7, 0) });
    tokio::time::sleep(Duration::from_secs(3_599)).await;
    assert_eq!((town.job(7).state(), town.got(7).len()), (JobState::Scheduled, 0));
    town.until(7, JobState::Released, Duration::from_secs(3)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let got = &town.got(7)[0];
    assert!(
        got.at >= Duration::from_secs(3_600) && got.at < Duration::from_millis(3_601_500),
        "{:?}",
        got.at
    );
    assert_eq!(got.notice.expires_ms, starts_ms + 86_400_000);
}

#[tokio::test(start_paused = true)]
async fn a_local_time_comes_once_for_each_offset() {
    let mut rng = rng();
    let mut town = Town::new().await;
    // A day and more of polls would take a minute.
    town.haste = 60;
    town.add_room(11, 100, &mut rng).await;
    town.add_center(2).await;
    town.add_center(3).await;
    // 09:00 on the day that begins in 14 hours at the earliest clocks.
    let minutes = BEGIN_MS / 60_000 / 1440 * 1440 + 1440 + 540;
    let starts_ms = when::first_due_ms(minutes);
    assert!(starts_ms > BEGIN_MS);
    let job = Job { state: JobState::Scheduled.into(), starts_ms, local_minutes: Some(minutes), ..job(7, 0) };
    town.put(job);
    town.until(7, JobState::Released, Duration::from_secs(3 * 86_400)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let got = town.got(7);
    assert_eq!(got.len(), 105);
    for (step, got) in got.iter().enumerate() {
        let offset = got.notice.filter.as_ref().unwrap().utc_offset_min.unwrap();
        assert_eq!(offset, 840 - 15 * step as i32);
        let due = when::local_due_ms(minutes, offset) - BEGIN_MS;
        let late = got.at.as_millis() as u64 * town.haste - due;
        assert!(late < 1_500 * town.haste, "{late} ms after nine at {offset}");
        assert_eq!(got.notice.expires_ms, due + BEGIN_MS + 86_400_000);
        assert_eq!(got.users, if offset == 60 { 100 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_released_too_late_goes_at_once() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 10_000, &mut rng).await;
    town.add_center(2).await;
    town.put(Job { ttl_ms: 10_000, ..job(7, 100) });
    town.until(7, JobState::Released, Duration::from_secs(12)).await;
    let last = town.fakes.state().jobs.released.last().unwrap().clone();
    assert!(last.last && last.expires_ms == BEGIN_MS + 10_000);
}
