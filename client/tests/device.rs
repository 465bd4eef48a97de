//! The device on real sockets, against a small room.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use client::{Config, Confirm, Device, Event, Snapshot, device::Events};
use room::Room;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use wire::{
    codec,
    frame::{Close, CloseCode, Unbound, UnboundReason},
};

/// A room on a socket: one connection at a time, cut when told.
#[derive(Clone)]
struct Served {
    room: Arc<Mutex<Room>>,
    address: SocketAddr,
    poke: Arc<Notify>,
    cut: Arc<Notify>,
}

impl Served {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = Self {
            room: Arc::default(),
            address: listener.local_addr().unwrap(),
            poke: Arc::default(),
            cut: Arc::default(),
        };
        tokio::spawn(served.clone().accept(listener));
        served
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.room.lock().unwrap().accept();
            tokio::select! {
                () = self.talk(stream) => {}
                () = self.cut.notified() => {}
            }
        }
    }

    async fn talk(&self, mut stream: TcpStream) {
        let mut buffer = [0; 4096];
        loop {
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(length) if length > 0 => self.room.lock().unwrap().receive(&buffer[..length]),
                    _ => return,
                },
                () = self.poke.notified() => {}
            }
            let frames = std::mem::take(&mut self.room.lock().unwrap().down);
            let bytes: Vec<u8> = frames.iter().flat_map(codec::encode_server_frame).collect();
            if stream.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }

    fn append(&self, ids: impl IntoIterator<Item = u64>) {
        let mut room = self.room.lock().unwrap();
        ids.into_iter().for_each(|id| room.inbox.append(id));
        room.deliver();
        self.poke.notify_one();
    }

    fn left(&self) -> usize {
        self.room.lock().unwrap().inbox.entries.len()
    }

    fn device(&self) -> client::device::Builder {
        Device::builder("test")
            .address(&self.address.to_string())
            .token(|app, uid| async move { Ok(format!("{app}/{uid}")) })
    }
}

async fn bind(device: &Device) -> wire::id::BindingId {
    device.bind("demo".parse().unwrap(), "alice".parse().unwrap(), []).await.unwrap()
}

/// The ids of the next messages, with other events left out.
async fn messages(events: &mut Events, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let Event::Message(message) = next(events).await {
            ids.push(message.id.0);
        }
    }
    ids
}

async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), events.next()).await;
    event.expect("an event within 20 s").expect("the device is open")
}

#[tokio::test]
async fn receives_acks_and_reconnects() {
    let served = Served::start().await;
    served.append(1..=3);
    let (device, mut events) = served.device().start().unwrap();
    bind(&device).await;
    assert_eq!(messages(&mut events, 3).await, [1, 2, 3]);
    served.cut.notify_one();
    loop {
        if let Event::Disconnected(_) = next(&mut events).await {
            break;
        }
    }
    served.append(4..=5);
    assert_eq!(messages(&mut events, 2).await, [4, 5]);
    events.confirm_last();
    let saved = device.close().await;
    assert_eq!(saved.bindings[0].inbox.unwrap().seq.0, 5);
    assert_eq!(saved.address.as_deref(), Some(&*served.address.to_string()));
    assert!(events.next().await.is_none());
    // What was acked by the close may still be on its way to the room's task.
    while served.left() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_last_event_is_not_confirmed_before_the_app_says_so() {
    let served = Served::start().await;
    served.append(1..=2);
    let (device, mut events) = served.device().start().unwrap();
    bind(&device).await;
    assert_eq!(messages(&mut events, 2).await, [1, 2]);
    // The app dies while it works on message 2.
    let saved = device.close().await;
    assert_eq!(saved.bindings[0].inbox.unwrap().seq.0, 1);

    let json = serde_json::to_string(&saved).unwrap();
    let saved: Snapshot = serde_json::from_str(&json).unwrap();
    let (device, mut events) = served.device().restore(saved).start().unwrap();
    bind(&device).await;
    served.append([3]);
    assert_eq!(messages(&mut events, 2).await, [2, 3]);
    drop(device);
}

#[tokio::test]
async fn by_app_confirms_nothing_by_itself() {
    let served = Served::start().await;
    served.append(1..=2);
    let mut config = Config::default();
    config.ack.confirm = Confirm::ByApp;
    let (device, mut events) = served.device().config(config).start().unwrap();
    bind(&device).await;
    messages(&mut events, 1).await;
    let second = next(&mut events).await;
    assert_eq!(device.snapshot().await.unwrap().bindings[0].inbox.unwrap().seq.0, 0);
    events.confirm(&second);
    assert_eq!(device.snapshot().await.unwrap().bindings[0].inbox.unwrap().seq.0, 2);
}

#[tokio::test]
async fn an_app_that_takes_nothing_stalls_the_reading_and_loses_nothing() {
    let served = Served::start().await;
    served.append(1..=3000);
    let (device, mut events) = served.device().event_queue(4).start().unwrap();
    bind(&device).await;
    assert_eq!(messages(&mut events, 3000).await, (1..=3000).collect::<Vec<_>>());
    drop(device);
}

#[tokio::test]
async fn asks_the_dispatcher_and_goes_on_to_the_second_address() {
    let served = Served::start().await;
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dispatcher = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", dispatcher.local_addr().unwrap());
    let room = served.address;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = dispatcher.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let body = format!(r#"{{"endpoints":[{{"address":"{dead}"}},{{"address":"{room}"}}]}}"#);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let token = |_, _| async { Ok("token".to_owned()) };
    let (device, mut events) = Device::builder("test").dispatcher(&url).token(token).start().unwrap();
    let binding = bind(&device).await;
    loop {
        if let Event::Bound { binding: bound, .. } = next(&mut events).await {
            assert_eq!(bound, binding);
            break;
        }
    }
    drop(device);
}

#[tokio::test]
async fn a_version_that_is_too_old_ends_the_device() {
    let served = Served::start().await;
    let (device, mut events) = served.device().start().unwrap();
    bind(&device).await;
    while !matches!(next(&mut events).await, Event::Bound { .. }) {}
    served.room.lock().unwrap().send(Close { code: CloseCode::BadVersion.into(), ..Close::default() });
    served.poke.notify_one();
    assert!(matches!(next(&mut events).await, Event::Disconnected(_)));
    assert!(events.next().await.is_none());
    assert!(device.snapshot().await.is_err());
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_asked_for_again() {
    let served = Served::start().await;
    let calls = Arc::new(Mutex::new(0));
    let provider = move |_, _| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        let fails = *calls == 1;
        async move { if fails { Err("backend down".into()) } else { Ok("token".to_owned()) } }
    };
    let (device, mut events) = served.device().token(provider).start().unwrap();
    bind(&device).await;
    while !matches!(next(&mut events).await, Event::Bound { .. }) {}
    let reason = UnboundReason::Replaced;
    served.room.lock().unwrap().send(Unbound { binding: 1, reason: reason.into() });
    served.poke.notify_one();
    assert!(matches!(next(&mut events).await, Event::Unbound { reason: UnboundReason::Replaced, .. }));
    drop(device);
}

#[tokio::test]
async fn a_device_without_an_address_is_refused() {
    assert!(Device::builder("test").start().is_err());
    assert!(Device::builder("").address("h:1").start().is_err());
    assert!(Device::builder("test").dispatcher("ftp://x").start().is_err());
}

/// Each connection that ended while the app took nothing left one more event in memory, for as long as that went on.
#[tokio::test]
async fn an_app_that_takes_nothing_does_not_pile_up_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await.unwrap());
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let soon = Duration::from_millis(2);
    let backoff = client::backoff::Backoff { initial: soon, cap: soon };
    let config = Config { handshake_timeout: soon, backoff, ..Config::default() };
    let builder = Device::builder("test").address(&address.to_string()).config(config).event_queue(1);
    let (device, mut events) = builder.token(|_, _| async { Ok(String::new()) }).start().unwrap();
    bind(&device).await;
    let seen = || accepted.load(std::sync::atomic::Ordering::SeqCst);
    while seen() < 40 {
        tokio::time::sleep(soon).await;
    }
    let before = seen();
    for _ in 0..20 {
        next(&mut events).await;
    }
    assert!(seen() - before >= 10, "{} connections for 20 events", seen() - before);
    device.close().await;
}
