use std::time::Duration;

use proto::internal::{BroadcastNotice, Filter, JobState, ReleaseJobRequest, room_server::Room as _};
use rand::RngExt as _;
use tonic::Request;

use super::town::{Town, assert_partition, job, rng};
use crate::jobs::{owners, ring};

/// Two centers, one archive; the one that runs the job is killed at ten random moments, and another comes.
#[tokio::test(start_paused = true)]
async fn a_job_goes_on_wherever_its_center_dies() {
    let mut rng = rng();
    for round in 0..10u32 {
        let mut town = Town::new().await;
        for room in 11..14 {
            town.add_room(room, 1_000, &mut rng).await;
        }
        town.add_center(2).await;
        town.add_center(3).await;
        let id = 1_000 + u64::from(round);
        town.put(job(id, 300));
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..9_000))).await;
        let reach = town.centers.values().next().unwrap().jobs.reach.clone();
        let runner = owners::runner(&reach.picture(), reach.me(), id);
        // For a moment the dead one is still in the picture; and now and then it goes on for a while, unseen.
        let noticed = Duration::from_millis(rng.random_range(0..2_000));
        let unseen = rng.random::<bool>();
        if unseen {
            town.leave_center(runner.0).await;
            tokio::time::sleep(noticed).await;
            town.add_center(4).await;
        } else {
            town.kill_center(runner.0, noticed).await;
        }
        town.until(id, JobState::Released, Duration::from_secs(60)).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let released = town.fakes.state().jobs.released.clone();
        assert_partition(&released, id);
        // Every user was sent it once: each slice that rooms were told of, they were told of once.
        let mut told: Vec<_> = town.rooms[&11].state().got.iter().map(|got| got.notice.bseq).collect();
        let count = told.len();
        told.sort_unstable();
        told.dedup();
        assert_eq!(told.len(), count, "round {round}");
        // A slice whose center died before it told of it is found by the log's head; no more than that is missing.
        assert!(released.len() - count <= 1, "round {round}: {count} of {} slices told", released.len());
    }
}

/// Both believe that they run it, all of the time.
#[tokio::test(start_paused = true)]
async fn two_runners_of_one_job_release_each_slice_once() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 3_000, &mut rng).await;
    town.add_center(2).await;
    town.add_center(3).await;
    // Neither sees any center, so each does it itself.
    town.leave_center(2).await;
    town.leave_center(3).await;
    town.put(job(7, 200));
    town.until(7, JobState::Released, Duration::from_secs(60)).await;
    let state = town.fakes.state();
    assert_partition(&state.jobs.released, 7);
    assert!(state.jobs.calls["release_job"] > state.jobs.released.len(), "both tried");
}

/// As after a machine that stood still: meanwhile another center had gone on with the job at its pace.
#[tokio::test(start_paused = true)]
async fn what_another_center_released_is_no_debt() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 20_000, &mut rng).await;
    town.add_center(2).await;
    town.put(job(7, 400));
    tokio::time::sleep(Duration::from_millis(5_300)).await;
    let from = town.job(7).released;
    let slice = ReleaseJobRequest {
        app: 1,
        id: 7,
        from,
        to: from + ring::RING / 4,
        filter: Some(Filter { hash_from: from, hash_below: from + ring::RING / 4, ..Default::default() }),
        ..Default::default()
    };
    let notice = BroadcastNotice { id: 7, filter: slice.filter.clone(), ..Default::default() };
    assert!(town.fakes.state().jobs.release(slice).released);
    town.rooms[&11].clone().broadcast(Request::new(notice)).await.unwrap();
    let back = town.elapsed() + Duration::from_millis(1);
    tokio::time::sleep(Duration::from_millis(5_001)).await;
    let sent = town.sent(7, back..back + Duration::from_secs(5));
    assert!((1_700..=2_100).contains(&sent), "{sent} in five seconds at 400 a second");
    town.until(7, JobState::Released, Duration::from_secs(60)).await;
    assert_partition(&town.fakes.state().jobs.released, 7);
}

#[tokio::test(start_paused = true)]
async fn what_rooms_have_sent_is_kept() {
    let mut rng = rng();
    let mut town = Town::new().await;
    for room in 11..15 {
        town.add_room(room, 100, &mut rng).await;
    }
    town.add_center(2).await;
    town.add_center(3).await;
    town.put(job(7, 0));
    town.until(7, JobState::Released, Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let kept: Vec<_> = town.fakes.state().jobs.parts.iter().map(|(part, sent)| (*part, *sent)).collect();
    assert_eq!(kept, [((7, 11, 1), 100), ((7, 12, 1), 100), ((7, 13, 1), 100), ((7, 14, 1), 100)]);
}
