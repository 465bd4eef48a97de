use std::time::Duration;

use cluster::NodeId;
use proto::internal::{Filter, JobState};
use rand::RngExt as _;

use super::town::{Town, assert_partition, job, rng};
use crate::jobs::owners;

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// The greatest deviation from the rate in any window of ten seconds, as a part of it.
fn deviation(town: &Town, id: u64, rate: f64, from: f64, to: f64) -> f64 {
    let mut worst: f64 = 0.0;
    let mut at = from;
    while at + 10.0 <= to {
        let sent = town.sent(id, s(at)..s(at + 10.0)) as f64;
        worst = worst.max((sent / (rate * 10.0) - 1.0).abs());
        at += 0.1;
    }
    worst
}

#[tokio::test(start_paused = true)]
async fn the_pace_is_kept_while_the_audience_fluctuates() {
    let mut rng = rng();
    let mut town = Town::new().await;
    for room in 11..14 {
        town.add_room(room, 20_000, &mut rng).await;
    }
    town.add_center(2).await;
    town.add_center(3).await;
    town.put(job(7, 1_000));
    // Each second up to a tenth of a room's users go, and as many as it had at first at most come.
    for _ in 0..55 {
        tokio::time::sleep(s(1.0)).await;
        let room = town.rooms[&rng.random_range(11..14)].clone();
        let mut state = room.state();
        let stay = rng.random_range(0.9..1.0);
        state.users.retain(|_| rng.random::<f64>() < stay);
        let come = rng.random_range(0..2_000);
        state.users.extend((0..come).map(|_| rng.random::<u32>()));
    }
    let worst = deviation(&town, 7, 1_000.0, 1.0, 40.0);
    println!("{:.2} % in ten seconds", worst * 100.0);
    assert!(worst <= 0.05, "{:.2} % in ten seconds", worst * 100.0);
    town.until(7, JobState::Released, s(60.0)).await;
    let state = town.fakes.state();
    assert_partition(&state.jobs.released, 7);
    let slices = state.jobs.released.len();
    assert!((200..320).contains(&slices), "{slices} slices: four a second for a minute");
}

/// Its rooms were told of nothing for as long as a call may take, and then sent all of that at once.
#[tokio::test(start_paused = true)]
async fn a_center_that_stands_still_holds_no_part_up() {
    let mut rng = rng();
    let mut town = Town::new().await;
    for room in 11..15 {
        town.add_room(room, 5_000, &mut rng).await;
    }
    town.add_center(2).await;
    town.add_silent_center(3).await;
    let picture = town.centers[&2].jobs.reach.picture();
    let id = (7..).find(|id| owners::runner(&picture, NodeId(2), *id) == NodeId(2)).unwrap();
    town.put(job(id, 400));
    tokio::time::sleep(s(22.0)).await;
    let worst = deviation(&town, id, 400.0, 1.0, 21.0);
    assert!(worst <= 0.05, "{:.2} % in ten seconds", worst * 100.0);
    for second in 2..21 {
        let sent = town.sent(id, s(second.into())..s(f64::from(second) + 1.0));
        assert!((200..=600).contains(&sent), "{sent} in second {second}");
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_that_come_and_go_are_shared_in() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 10_000, &mut rng).await;
    town.add_center(2).await;
    town.put(job(7, 500));
    tokio::time::sleep(s(5.0)).await;
    town.add_room(12, 20_000, &mut rng).await;
    tokio::time::sleep(s(35.0)).await;
    let worst = deviation(&town, 7, 500.0, 8.0, 38.0);
    println!("{:.2} % in ten seconds", worst * 100.0);
    assert!(worst <= 0.05, "{:.2} % in ten seconds", worst * 100.0);
    assert!(town.rooms[&12].state().got.iter().map(|got| got.users).sum::<u64>() > 5_000);
}

#[tokio::test(start_paused = true)]
async fn a_slow_pace_is_kept_too() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 2_500, &mut rng).await;
    town.add_room(12, 500, &mut rng).await;
    town.add_center(2).await;
    // Of fewer a second, chance alone is more than a twentieth of ten seconds' worth.
    town.put(job(7, 100));
    tokio::time::sleep(s(25.0)).await;
    let worst = deviation(&town, 7, 100.0, 1.0, 25.0);
    println!("{:.2} % in ten seconds", worst * 100.0);
    assert!(worst <= 0.05, "{:.2} % in ten seconds", worst * 100.0);
}

#[tokio::test(start_paused = true)]
async fn a_job_has_a_bounded_number_of_slices() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 50_000, &mut rng).await;
    town.add_center(2).await;
    // At four slices a second it would take 40,000 of them.
    town.put(job(7, 5));
    tokio::time::sleep(s(300.0)).await;
    let released = town.fakes.state().jobs.released.len();
    let share = town.job(7).released as f64 / super::ring::RING as f64;
    assert!(released as f64 / share < 20_100.0, "{released} slices for {share} of the ring");
    let sent = town.sent(7, s(0.0)..s(300.0));
    assert!((1_300..1_700).contains(&sent), "{sent} in 300 s at 5/s");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_pace_is_one_slice_and_a_canary_its_part() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_room(11, 1_000, &mut rng).await;
    town.add_center(2).await;
    town.put(job(7, 0));
    let quarter = Filter { hash_below: super::ring::RING / 4, ..Default::default() };
    town.put(proto::internal::Job { filter: Some(quarter), ..job(8, 0) });
    town.until(7, JobState::Released, s(2.0)).await;
    town.until(8, JobState::Released, s(2.0)).await;
    tokio::time::sleep(s(1.0)).await;
    assert_eq!(town.got(7).iter().map(|got| got.users).collect::<Vec<_>>(), [1_000]);
    let of_canary = town.got(8).iter().map(|got| got.users).sum::<u64>();
    assert!((180..320).contains(&of_canary), "{of_canary} of 1,000");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_released_while_there_is_no_room() {
    let mut rng = rng();
    let mut town = Town::new().await;
    town.add_center(2).await;
    town.put(job(7, 100));
    tokio::time::sleep(s(10.0)).await;
    assert_eq!(town.job(7).released, 0);
    town.add_room(11, 200, &mut rng).await;
    town.until(7, JobState::Released, s(10.0)).await;
}
