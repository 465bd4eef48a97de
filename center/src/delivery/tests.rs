use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::internal::{Position, Presence};

use super::*;

/// Stands in for registers and rooms: users whose name begins with "on" are online in room 1.
#[derive(Clone, Default)]
struct Fake {
    delivered: Arc<Mutex<Vec<(String, u64)>>>,
    /// Look-ups of this user take a minute.
    slow: Option<&'static str>,
    /// Deliveries to this user never come back.
    stuck: Option<&'static str>,
}

impl Carrier for Fake {
    async fn look_up(&self, _: u32, uid: &Uid, _: bool) -> Result<LookUpResult, PeerError> {
        if self.slow == Some(uid.as_str()) {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let presence = if uid.starts_with("on") { Presence::Online } else { Presence::Offline };
        Ok(LookUpResult { presence: presence.into(), room: 1, fence: 9, ..LookUpResult::default() })
    }

    async fn look_up_list(&self, app: u32, uids: &[&str]) -> Vec<Result<LookUpResult, PeerError>> {
        let mut places = Vec::new();
        for uid in uids {
            places.push(self.look_up(app, &Uid::new(uid).unwrap(), false).await);
        }
        places
    }

    async fn deliver_list(
        &self,
        items: Vec<(NodeId, DeliverItem)>,
        payload: Bytes,
    ) -> Vec<Result<Outcome, PeerError>> {
        let mut done = Vec::new();
        for (room, item) in items {
            done.push(self.deliver(room, item, payload.clone()).await);
        }
        done
    }

    async fn deliver(&self, room: NodeId, item: DeliverItem, payload: Bytes) -> Result<Outcome, PeerError> {
        assert_eq!((room, item.fence, &*payload), (NodeId(1), 9, &b"hello"[..]));
        if self.stuck == Some(item.uid.as_str()) {
            std::future::pending::<()>().await;
        }
        self.delivered.lock().unwrap().push((item.uid, item.seq));
        Ok(Outcome::Sent)
    }
}

fn parcel(uid: &str, seq: u64) -> Parcel {
    Parcel {
        app: 1,
        uid: Uid::new(uid).unwrap(),
        epoch: 1,
        seq,
        id: seq,
        accepted_ms: 0,
        payload: Bytes::from_static(b"hello"),
        collapse_key: Box::default(),
        urgent: false,
    }
}

struct Stage {
    delivery: Delivery,
    fake: Fake,
    metrics: Metrics,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Stage {
    fn new(limits: &DeliveryConfig, fake: Fake) -> Stage {
        let (metrics, cancel) = (Metrics::default(), CancellationToken::new());
        let (delivery, tasks) = Delivery::spawn(limits, &fake, &metrics, &cancel);
        Stage { delivery, fake, metrics, cancel, tasks }
    }

    /// Lets time pass until nothing moves any more, then ends the stage.
    async fn settle(self) -> (Vec<(String, u64)>, Metrics) {
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.cancel.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
        assert!(self.delivery.is_idle(), "all bytes were given back");
        let delivered = self.fake.delivered.lock().unwrap().clone();
        (delivered, self.metrics)
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_messages_keep_the_order_of_their_numbers() {
    let stage = Stage::new(&DeliveryConfig::default(), Fake::default());
    // Offered as the answers happened to come.
    for seq in [2, 1, 3, 5, 4] {
        stage.delivery.offer(parcel("on-a", seq));
        stage.delivery.offer(parcel("on-b", seq));
        stage.delivery.offer(parcel("off", seq));
    }
    let (delivered, metrics) = stage.settle().await;
    for user in ["on-a", "on-b"] {
        let seqs: Vec<_> = delivered.iter().filter(|(uid, _)| uid == user).map(|(_, seq)| *seq).collect();
        // The very first may have left alone, before the others were there.
        assert!(seqs == [1, 2, 3, 4, 5] || seqs == [2, 1, 3, 4, 5], "{seqs:?}");
    }
    assert_eq!(metrics.delivered_count(Delivered::Sent), 10);
    assert_eq!(metrics.delivered_count(Delivered::Offline), 5);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_dropped_and_counted() {
    let limits = DeliveryConfig { lanes: 1, lane_items: 3, ..DeliveryConfig::default() };
    let stage = Stage::new(&limits, Fake::default());
    for seq in 1..=10 {
        stage.delivery.offer(parcel("on", seq));
    }
    let (delivered, metrics) = stage.settle().await;
    assert_eq!(delivered.len(), 3);
    assert_eq!(metrics.delivered_count(Delivered::Full), 7);
}

#[tokio::test(start_paused = true)]
async fn payload_bytes_are_bounded_too() {
    let limits = DeliveryConfig { queue_bytes: 2 * (PARCEL_BYTES + 5), ..DeliveryConfig::default() };
    let stage = Stage::new(&limits, Fake::default());
    for seq in 1..=3 {
        stage.delivery.offer(parcel("on", seq));
    }
    let (delivered, metrics) = stage.settle().await;
    assert_eq!(delivered.len(), 2);
    assert_eq!(metrics.delivered_count(Delivered::Full), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_look_up_delays_only_its_own_user() {
    let stage = Stage::new(
        &DeliveryConfig { lanes: 1, ..DeliveryConfig::default() },
        Fake { slow: Some("on-slow"), ..Fake::default() },
    );
    stage.delivery.offer(parcel("on-slow", 1));
    stage.delivery.offer(parcel("on-a", 2));
    tokio::time::sleep(Duration::from_millis(150)).await;
    stage.delivery.offer(parcel("on-a", 3));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before: Vec<_> = stage.fake.delivered.lock().unwrap().clone();
    assert_eq!(before, [("on-a".to_owned(), 2), ("on-a".to_owned(), 3)]);
    let (delivered, metrics) = stage.settle().await;
    assert_eq!(delivered[2], ("on-slow".to_owned(), 1));
    assert_eq!(metrics.delivered_count(Delivered::Sent), 3);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_hangs_stops_no_other_until_the_lane_is_full() {
    let limits = DeliveryConfig { lanes: 1, lane_items: 3, ..DeliveryConfig::default() };
    let stage = Stage::new(&limits, Fake { stuck: Some("on-stuck"), ..Fake::default() });
    for seq in 1..=2 {
        stage.delivery.offer(parcel("on-stuck", seq));
        stage.delivery.offer(parcel("on-a", seq));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.fake.delivered.lock().unwrap().len(), 2);
    assert!(!stage.delivery.is_idle());
    // One more fills the lane's hands; then three wait, and the rest is shed.
    for seq in 3..=8 {
        stage.delivery.offer(parcel("on-stuck", seq));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stage.metrics.delivered_count(Delivered::Full), 2);
    stage.cancel.cancel();
}

fn urgent(uid: &str, seq: u64) -> Parcel {
    Parcel { urgent: true, ..parcel(uid, seq) }
}

/// Thousands of messages waited in each lane when an urgent one came, and it waited behind them.
#[tokio::test(start_paused = true)]
async fn what_is_urgent_goes_before_what_waits() {
    let limits = DeliveryConfig { lanes: 1, lane_batch: 4, ..DeliveryConfig::default() };
    let stage = Stage::new(&limits, Fake::default());
    for seq in 1..=100 {
        stage.delivery.offer(parcel("on-rest", seq));
    }
    stage.delivery.offer(urgent("on-now", 1));
    let (delivered, _) = stage.settle().await;
    let at = delivered.iter().position(|(uid, _)| uid == "on-now").unwrap();
    assert!(at < 8, "after {at} others");
    assert_eq!(delivered.len(), 101);
}

/// A stage that is full of other messages takes what is urgent all the same.
#[tokio::test(start_paused = true)]
async fn what_is_urgent_has_places_of_its_own() {
    let limits = DeliveryConfig { lanes: 1, lane_items: 3, queue_bytes: 4_000, ..DeliveryConfig::default() };
    let stage = Stage::new(&limits, Fake { stuck: Some("on-stuck"), ..Fake::default() });
    for seq in 1..=20 {
        stage.delivery.offer(parcel("on-stuck", seq));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    stage.delivery.offer(urgent("on-now", 1));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*stage.fake.delivered.lock().unwrap(), [("on-now".to_owned(), 1)]);
    stage.cancel.cancel();
}

fn crowd(users: &[&str]) -> Crowd {
    let place = |n: usize| Position { epoch: 1, seq: n as u64 + 1 };
    Crowd {
        app: 1,
        id: 77,
        accepted_ms: 0,
        payload: Bytes::from_static(b"hello"),
        collapse_key: Box::default(),
        urgent: false,
        users: users.iter().enumerate().map(|(n, uid)| (Uid::new(uid).unwrap(), place(n))).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_delivered_to_who_is_online() {
    let stage = Stage::new(&DeliveryConfig::default(), Fake::default());
    stage.delivery.gather(crowd(&["on-a", "off", "on-b"])).await;
    assert!(!stage.delivery.is_idle());
    let (delivered, metrics) = stage.settle().await;
    assert_eq!(delivered, [("on-a".to_owned(), 1), ("on-b".to_owned(), 3)]);
    assert_eq!(metrics.delivered_count(Delivered::Sent), 2);
    assert_eq!(metrics.delivered_count(Delivered::Offline), 1);
}

#[tokio::test(start_paused = true)]
async fn crowds_that_cannot_move_are_left_to_the_sweeper() {
    let stage = Stage::new(&DeliveryConfig::default(), Fake { stuck: Some("on-stuck"), ..Fake::default() });
    for _ in 0..crowd::AT_ONCE + crowd::WAITING + 3 {
        stage.delivery.gather(crowd(&["on-stuck", "on-b"])).await;
    }
    assert_eq!(stage.metrics.delivered_count(Delivered::Full), 6);
    stage.cancel.cancel();
}

/// A message that waited to be delivered when it was taken back was delivered after that.
#[tokio::test(start_paused = true)]
async fn what_was_taken_back_goes_nowhere() {
    let stage = Stage::new(&DeliveryConfig::default(), Fake::default());
    stage.delivery.recalled().note(2);
    stage.delivery.recalled().note(77);
    for seq in 1..=3 {
        stage.delivery.offer(parcel("on-a", seq));
    }
    stage.delivery.gather(crowd(&["on-a", "on-b"])).await;
    let (delivered, metrics) = stage.settle().await;
    assert_eq!(delivered, [("on-a".to_owned(), 1), ("on-a".to_owned(), 3)]);
    assert_eq!(metrics.delivered_count(Delivered::Recalled), 3);
}
