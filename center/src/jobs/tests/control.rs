use std::time::Duration;

use proto::internal::{ChangeJobRequest, JobState, Progress};

use super::town::{Town, job, rng};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn busy_town() -> Town {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 20_000, &mut rng).await;
    town.add_center(2).await;
    town.put(job(7, 400));
    tokio::time::sleep(ms(5_300)).await;
    town
}

#[tokio::test(start_paused = true)]
async fn pausing_resuming_and_cancelling_take_effect_within_a_second() {
    let town = busy_town().await;
    assert!(town.change(ChangeJobRequest { id: 7, state: JobState::Paused.into(), ..Default::default() }));
    let paused = town.elapsed();
    tokio::time::sleep(ms(10_000)).await;
    let late = town.sent(7, paused + ms(100)..town.elapsed());
    assert_eq!(late, 0, "nothing is released after the pause");

    assert!(town.change(ChangeJobRequest { id: 7, state: JobState::Running.into(), ..Default::default() }));
    let resumed = town.elapsed();
    tokio::time::sleep(ms(1_000)).await;
    let soon = town.sent(7, resumed..resumed + ms(1_000));
    assert!((100..=500).contains(&soon), "{soon}: it goes on, and does not make up for the pause");

    assert!(town.change(ChangeJobRequest { id: 7, state: JobState::Cancelled.into(), ..Default::default() }));
    let cancelled = town.elapsed();
    tokio::time::sleep(ms(5_000)).await;
    assert_eq!(town.sent(7, cancelled + ms(100)..town.elapsed()), 0);
    assert!(town.job(7).released > 0);
}

#[tokio::test(start_paused = true)]
async fn another_speed_holds_within_a_second() {
    let town = busy_town().await;
    for speed in [2_000, 100, 800] {
        assert!(town.change(ChangeJobRequest { id: 7, users_per_second: Some(speed), ..Default::default() }));
        let changed = town.elapsed();
        tokio::time::sleep(ms(6_000)).await;
        let sent = town.sent(7, changed + ms(1_000)..changed + ms(6_000)) as f64;
        let wanted = f64::from(speed) * 5.0;
        assert!((sent / wanted - 1.0).abs() < 0.1, "{sent} instead of {wanted} in five seconds");
    }
    assert!(town.change(ChangeJobRequest { id: 7, users_per_second: Some(0), ..Default::default() }));
    town.until(7, JobState::Released, ms(1_000)).await;
}

#[tokio::test(start_paused = true)]
async fn feedback_slows_recovers_and_pauses_with_numbers() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 100_000, &mut rng).await;
    town.add_center(2).await;
    town.put(proto::internal::Job { min_ack_ratio: 0.8, max_latency_ms: 1_000, ..job(7, 640) });
    tokio::time::sleep(ms(15_000)).await;
    assert_eq!(town.job(7).users_per_second, 640, "nobody can have told anything yet");

    let room = town.rooms[&11].clone();
    room.state().told = Progress { ripe: 1_000, ripe_acked: 500, ..Default::default() };
    tokio::time::sleep(ms(4_000)).await;
    // The counts have to move: they are judged from where the run began.
    room.state().told = Progress { ripe: 2_000, ripe_acked: 1_000, ..Default::default() };
    tokio::time::sleep(ms(5_500)).await;
    let slowed = town.job(7);
    assert!(slowed.users_per_second <= 160, "{}", slowed.users_per_second);
    assert!(
        slowed.why.contains("of 640 users/s") && slowed.why.contains("the bound is 0.8"),
        "{}",
        slowed.why
    );
    assert_eq!(slowed.users_per_second_asked, 640);

    room.state().told = Progress { ripe: 20_000, ripe_acked: 19_000, ..Default::default() };
    tokio::time::sleep(ms(6_000)).await;
    let better = town.job(7);
    assert!(better.users_per_second >= slowed.users_per_second + 2 * 64, "{}", better.users_per_second);
    assert!(better.why.starts_with("recovers"), "{}", better.why);
    tokio::time::sleep(ms(30_000)).await;
    let whole = town.job(7);
    assert_eq!((whole.users_per_second, whole.why.as_str()), (640, ""));

    room.state().told.latency = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 100];
    town.until(7, JobState::Paused, ms(60_000)).await;
    let paused = town.job(7);
    assert!(
        paused.why.starts_with("paused: 95 of 100 of the last 100 acks took up to 3994 ms"),
        "{}",
        paused.why
    );
    assert!(paused.why.ends_with("at the least speed of 10 users/s"), "{}", paused.why);
    let at = town.elapsed();
    tokio::time::sleep(ms(5_000)).await;
    assert_eq!(town.sent(7, at + ms(100)..town.elapsed()), 0);
}

/// A center at rest looks every few seconds: who makes a job, or changes it, tells the one that runs it.
#[tokio::test(start_paused = true)]
async fn who_runs_a_job_is_told_of_it() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 1_000, &mut rng).await;
    town.add_center(2).await;
    town.add_center(3).await;
    for id in [7, 8, 9, 10] {
        // In the middle of a rest, and when the one before was just looked at.
        tokio::time::sleep(ms(1_200 * id)).await;
        town.put(job(id, 0));
        let reach = &town.centers[&2].jobs.reach;
        let runner = crate::jobs::owners::runner(&reach.picture(), reach.me(), id);
        let other = if runner.0 == 2 { 3 } else { 2 };
        town.centers[&other].jobs.known.note(id, true);
        town.until(id, JobState::Released, ms(500)).await;
    }
}
