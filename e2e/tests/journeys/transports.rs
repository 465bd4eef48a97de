//! One port for everything: the SDK over each transport, and a page in a browser that has no SDK.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use client::{Event, Transport, session::UpOutcome};
use e2e::{Backend, Stack, TestDevice, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wire::ws::{Incoming, Opcode, Receiver, close_into, masked_into};

crate::journeys! {
    each_transport_carries_everything with "[room.tls]\ncert = \"{room_cert}\"\nkey = \"{room_key}\"\n",
    a_new_certificate_needs_no_restart with "[room.tls]\ncert = \"{room_cert}\"\nkey = \"{room_key}\"\n",
    a_page_in_a_browser with "[room.websocket]\norigins = [\"https://app.example\"]\n",
    what_is_no_websocket_is_told_so with "[room.websocket]\norigins = [\"https://app.example\"]\n",
    a_page_that_breaks_the_protocol_is_told_how,
}

async fn each_transport_carries_everything(stack: &mut Stack) -> anyhow::Result<()> {
    let backend = Backend::start().await?;
    let app = stack.create_app("chat", json!({ "upstream_url": backend.url() })).await?;
    let mut devices = vec![];
    for transport in Transport::ALL {
        let uid = format!("by-{transport}");
        let mut device = TestDevice::over(stack, &uid, transport)?;
        device.knows("chat", app.api.clone());
        let binding = device.bind("chat", &uid, &[]).await.with_context(|| uid.clone())?;
        app.api.push(&uid, "hello").await?;
        device.expect_text("hello").await.with_context(|| uid.clone())?;
        // Acked over the same connection.
        app.api.depth_becomes(&uid, 0).await.with_context(|| uid.clone())?;

        // Bytes that are no text, and more than one read or record takes.
        let bytes: Vec<u8> = (0..48_000_u32).map(|n| (n * 31) as u8).collect();
        let body = json!({ "uid": uid, "payload_base64": BASE64.encode(&bytes) });
        app.api.told(app.api.post("/v1/push", &body).await?)?;
        ensure!(device.expect_message().await?.payload == bytes, "{transport}: another payload came");

        let reference = device.sdk().up(binding, "say", bytes.clone().into()).await?;
        let call = backend.next().await.with_context(|| uid.clone())?.body;
        ensure!(
            call["uid"] == uid.as_str() && call["payload"] == BASE64.encode(&bytes),
            "{transport}: another upstream"
        );
        let done = |event: &Event| match event {
            Event::UpDone { reference: r, outcome } if *r == reference => Some(*outcome),
            _ => None,
        };
        ensure!(device.expect("the fate of the upstream frame", done).await? == UpOutcome::Accepted);
        devices.push(device);
    }
    app.api.broadcast("to you all", "").await?;
    for (device, transport) in devices.iter_mut().zip(Transport::ALL) {
        device.expect_broadcast("to you all").await.with_context(|| transport.to_string())?;
        ensure!(!device.saw_disconnect(), "{transport}: the connection broke");
    }
    // Whoever says good-bye is gone at once, on each.
    for (device, transport) in devices.into_iter().zip(Transport::ALL) {
        device.close().await;
        app.api.online_becomes(&format!("by-{transport}"), false).await?;
    }
    Ok(())
}

async fn a_new_certificate_needs_no_restart(stack: &mut Stack) -> anyhow::Result<()> {
    let mut before = TestDevice::over(stack, "before", Transport::Tls)?;
    before.bind("demo", "before", &[]).await?;
    stack.renew_room_certificate()?;
    // It trusts the new one and nobody else.
    let mut after = TestDevice::over(stack, "after", "wss".parse()?)?;
    after.bind("demo", "after", &[]).await?;
    for (device, uid) in [(&mut before, "before"), (&mut after, "after")] {
        stack.api().push(uid, "still here").await?;
        device.expect_text("still here").await?;
    }
    ensure!(!before.saw_disconnect(), "the connection with the old certificate broke");
    Ok(())
}

/// A WebSocket by hand.
struct Page {
    stream: TcpStream,
    receiver: Receiver,
    unread: Vec<u8>,
    /// The head of the answer to the upgrade.
    head: String,
}

const PATIENCE: Duration = Duration::from_secs(15);
const MASK: [u8; 4] = [9, 200, 0, 77];

/// What Chromium sends, by and large.
fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: push.example\r\nConnection: Upgrade\r\nPragma: no-cache\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{more}\r\n"
    )
}

const JSON: &str = "Origin: https://app.example\r\nSec-WebSocket-Protocol: longwire.v1.json\r\n";

impl Page {
    /// Sends a request; what the room answers, whatever it is.
    async fn ask(room: SocketAddr, request: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(room).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut unread = vec![];
        let end = loop {
            if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let read = timeout(PATIENCE, stream.read_buf(&mut unread)).await.context("no answer")??;
            ensure!(read > 0, "the room hung up: {:?}", String::from_utf8_lossy(&unread));
        };
        let head = String::from_utf8(unread.drain(..end).collect())?;
        Ok(Self { stream, receiver: Receiver::for_client(1 << 20), unread, head })
    }

    async fn open(room: SocketAddr) -> anyhow::Result<Self> {
        let page = Self::ask(room, &upgrade("/", JSON)).await?;
        ensure!(page.head.starts_with("HTTP/1.1 101 "), "{}", page.head);
        Ok(page)
    }

    async fn say(&mut self, frame: &Value) -> anyhow::Result<()> {
        let mut bytes = vec![];
        masked_into(&mut bytes, Opcode::Text, frame.to_string().as_bytes(), MASK);
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// What comes next; `None` when the room has hung up.
    async fn next(&mut self) -> anyhow::Result<Option<Incoming>> {
        loop {
            let mut input = &self.unread[..];
            let incoming = self.receiver.decode(&mut input)?;
            let left = input.len();
            self.unread.drain(..self.unread.len() - left);
            if incoming.is_some() {
                return Ok(incoming);
            }
            match timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.context("nothing came")? {
                Ok(read) if read > 0 => {}
                _ => return Ok(None),
            }
        }
    }

    /// The next frame of the protocol, which must be of this kind.
    async fn hear(&mut self, kind: &str) -> anyhow::Result<Value> {
        match self.next().await? {
            Some(Incoming::Text(text)) => {
                let mut frame: Value = serde_json::from_slice(&text)?;
                ensure!(frame.get(kind).is_some(), "expected {kind}, got {frame}");
                Ok(frame[kind].take())
            }
            other => bail!("expected {kind}, got {other:?}"),
        }
    }

    async fn greeted(room: SocketAddr) -> anyhow::Result<Self> {
        let mut page = Self::open(room).await?;
        page.say(&json!({ "connect": { "device": "page", "version": 1 } })).await?;
        page.hear("connected").await?;
        Ok(page)
    }

    /// Writes these bytes; the WebSocket close code with which the room ends the connection, and the codes of the
    /// protocol's own `Close` if it said one.
    async fn ends(&mut self, bytes: &[u8]) -> anyhow::Result<(Option<u16>, Option<String>)> {
        self.stream.write_all(bytes).await?;
        let (mut code, mut close) = (None, None);
        while let Some(incoming) = self.next().await? {
            match incoming {
                Incoming::Close(told) => code = told.map(|(code, _)| code),
                Incoming::Text(text) => {
                    let frame: Value = serde_json::from_slice(&text)?;
                    close = frame["close"]["code"].as_str().map(str::to_owned).or(close);
                }
                _ => {}
            }
        }
        Ok((code, close))
    }
}

/// A frame of a client that need not be right.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    masked_into(&mut bytes, Opcode::Binary, payload, MASK);
    bytes[0] = first;
    bytes
}

async fn a_page_in_a_browser(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let room = stack.room_for("alice").await?;
    let mut page = Page::open(room).await?;
    let has = |field: &str| page.head.lines().any(|line| line.to_lowercase().starts_with(field));
    ensure!(has("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{}", page.head);
    ensure!(has("sec-websocket-protocol: longwire.v1.json"), "{}", page.head);
    ensure!(has("set-cookie: longwire_room="), "{}", page.head);
    ensure!(!has("sec-websocket-extensions"), "{}", page.head);

    // The greeting in three pieces, with a Ping between, and each byte by itself.
    let connect =
        json!({ "connect": { "device": "page-1", "version": 1, "network": "NETWORK_WIFI" } }).to_string();
    let (first, rest) = connect.as_bytes().split_at(10);
    let (second, third) = rest.split_at(5);
    for bytes in [frame(0x01, first), frame(0x89, b"are you there?"), frame(0x00, second), frame(0x80, third)]
    {
        for byte in bytes {
            page.stream.write_all(&[byte]).await?;
        }
    }
    ensure!(page.next().await? == Some(Incoming::Pong("are you there?".into())), "no Pong");
    let connected = page.hear("connected").await?;
    ensure!(
        connected["heartbeatS"].as_u64().is_some_and(|s| s > 0) && connected["version"] == 1,
        "{connected}"
    );

    let token = api.token("demo", "alice").await?;
    page.say(&json!({ "bind": { "binding": 1, "app": "demo", "uid": "alice", "token": token } })).await?;
    let bound = page.hear("bound").await?;
    ensure!(bound["binding"] == 1, "{bound}");
    let id = api.push("alice", "hello, page").await?;
    let push = page.hear("push").await?;
    ensure!(push["payload"] == BASE64.encode("hello, page") && push["id"] == id.as_str(), "{push}");
    // 64-bit numbers are strings, which a page's numbers could not hold.
    ensure!(push["seq"].is_string() && push["acceptedMs"].is_string(), "{push}");
    let epoch = bound["inbox"]["epoch"].clone();
    page.say(&json!({ "ack": { "binding": 1, "seq": push["seq"], "epoch": epoch } })).await?;
    api.depth_becomes("alice", 0).await?;
    api.broadcast("hello, world", "").await?;
    let broadcast = page.hear("broadcast").await?;
    ensure!(broadcast["payload"] == BASE64.encode("hello, world"), "{broadcast}");
    page.say(&json!({ "ping": {} })).await?;
    page.hear("pong").await?;
    // What it does not know does no harm.
    page.say(&json!({ "dance": { "with": "me" } })).await?;
    ensure!(page.hear("error").await?["code"] == "ERROR_CODE_UNKNOWN_FRAME");

    let mut close = vec![];
    close_into(&mut close, 1000, "bye", Some(MASK));
    let (code, said) = page.ends(&close).await?;
    ensure!(code == Some(1000) && said.is_none(), "{code:?} {said:?}");
    eventually("the user is offline", Duration::from_secs(45), async || {
        let user = api.user("alice").await?;
        ensure!(user["online"] == false, "{user}");
        Ok(())
    })
    .await
}

async fn what_is_no_websocket_is_told_so(stack: &mut Stack) -> anyhow::Result<()> {
    let room = stack.room_for("alice").await?;
    let wrong_origin = JSON.replace("app.example", "evil.example");
    let no_subprotocol = "Origin: https://app.example\r\n";
    for (request, status) in [
        (upgrade("/", &wrong_origin), "403"),
        (upgrade("/", no_subprotocol), "400"),
        (upgrade("/elsewhere", JSON), "404"),
        (upgrade("/", JSON).replace("Version: 13", "Version: 8"), "426"),
        ("GET / HTTP/1.1\r\nHost: push.example\r\n\r\n".to_owned(), "426"),
        (upgrade("/", &format!("{JSON}X: {}\r\n", "x".repeat(9000))), "431"),
    ] {
        let mut page = Page::ask(room, &request).await?;
        ensure!(
            page.head.starts_with(&format!("HTTP/1.1 {status} ")),
            "expected {status}, got {}",
            page.head
        );
        // The reason in words, and the end.
        let read = page.stream.read_to_end(&mut page.unread);
        timeout(PATIENCE, read).await.context("the room does not hang up")?.ok();
        ensure!(!page.unread.is_empty(), "{status} without a reason");
    }
    // Whoever sends no origin is no page.
    let page = Page::ask(room, &upgrade("/", "Sec-WebSocket-Protocol: longwire.v1.json\r\n")).await?;
    ensure!(page.head.starts_with("HTTP/1.1 101 "), "{}", page.head);
    Ok(())
}

async fn a_page_that_breaks_the_protocol_is_told_how(stack: &mut Stack) -> anyhow::Result<()> {
    let room = stack.room_for("abuser").await?;
    let mut healthy = Page::greeted(room).await?;
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7f;
    for (name, bytes, code) in [
        ("no mask", unmasked, 1002),
        ("a reserved bit", frame(0xc1, b"{}"), 1002),
        ("an unknown kind", frame(0x83, b"{}"), 1002),
        ("a fragment of nothing", frame(0x80, b"{}"), 1002),
        ("a control frame in pieces", frame(0x09, b""), 1002),
        ("no UTF-8", frame(0x81, b"{\"ping\xff"), 1007),
        ("too much", frame(0x82, &vec![0; 300_000])[..20].to_vec(), 1009),
        ("a close code that must not be", frame(0x88, &[0x03, 0xed]), 1002),
    ] {
        let mut page = Page::greeted(room).await?;
        let (got, _) = page.ends(&bytes).await.with_context(|| name.to_owned())?;
        ensure!(got == Some(code), "{name}: {got:?} and not {code}");
    }
    // What is no frame is wrong to WebSocket as well; what a frame may not be is said in both languages.
    let again = br#"{"connect":{"device":"d","version":1}}"#;
    for (name, bytes, code, close) in [
        ("no JSON", frame(0x81, b"{"), 1007, None),
        ("the other kind", frame(0x82, b"{}"), 1003, None),
        ("a second Connect", frame(0x81, again), 4003, Some("CLOSE_CODE_BAD_FRAME")),
    ] {
        let mut page = Page::greeted(room).await?;
        let (got, said) = page.ends(&bytes).await.with_context(|| name.to_owned())?;
        ensure!(got == Some(code) && said.as_deref() == close, "{name}: {got:?} {said:?}");
    }
    healthy.say(&json!({ "ping": {} })).await?;
    healthy.hear("pong").await?;
    Ok(())
}
