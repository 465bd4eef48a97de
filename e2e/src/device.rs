//! A device on the SDK that a test can ask what came.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use client::{
    Config, Device, Event, Snapshot, Tls, Transport, UtcOffset,
    device::Events,
    session::{Broadcast, Message, Traits},
};
use tokio::time::{Instant, timeout_at};
use wire::{
    frame::{Network, UnboundReason},
    id::{AppId, BindingId, MessageId},
};

use crate::{ApiClient, Stack, external};

/// What comes at all comes in this time, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who makes the tokens of each app.
type Issuers = Arc<Mutex<HashMap<String, ApiClient>>>;

/// What a device tells of itself, by which broadcasts choose.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Tags.
    pub tags: Vec<String>,
    /// Version of its app.
    pub app_version: String,
    /// Its network.
    pub network: Network,
    /// What its clock shows minus UTC, minutes; `None` = it does not tell.
    pub utc_offset_min: Option<i16>,
}

impl Profile {
    /// These tags, and nothing else.
    pub fn tags(tags: &[&str]) -> Self {
        Self { tags: tags.iter().map(|t| (*t).to_owned()).collect(), ..Self::default() }
    }

    fn traits(&self) -> Traits {
        Traits { tags: self.tags.clone(), app_version: self.app_version.clone() }
    }
}

/// A device. Each message counts as done with when the test has got it.
pub struct TestDevice {
    device: Device,
    events: Events,
    /// Came, and was not waited for yet.
    unread: VecDeque<Event>,
    issuers: Issuers,
}

impl TestDevice {
    /// A device without bindings. It asks the stack's dispatcher where to connect.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(stack: &Stack, name: &str) -> anyhow::Result<Self> {
        Self::resume(stack, name, Snapshot::default())
    }

    /// Likewise, going on from what an earlier one kept.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn resume(stack: &Stack, name: &str, saved: Snapshot) -> anyhow::Result<Self> {
        Self::assemble(stack, name, saved, Transport::Native, None, &Profile::default())
    }

    /// A device without bindings that connects by this transport.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn over(stack: &Stack, name: &str, transport: Transport) -> anyhow::Result<Self> {
        Self::assemble(stack, name, Snapshot::default(), transport, None, &Profile::default())
    }

    /// A device without bindings that connects to this address and no other.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn at(stack: &Stack, name: &str, address: SocketAddr) -> anyhow::Result<Self> {
        Self::assemble(
            stack,
            name,
            Snapshot::default(),
            Transport::Native,
            Some(address),
            &Profile::default(),
        )
    }

    fn assemble(
        stack: &Stack,
        name: &str,
        saved: Snapshot,
        transport: Transport,
        address: Option<SocketAddr>,
        profile: &Profile,
    ) -> anyhow::Result<Self> {
        let issuers = Issuers::default();
        issuers.lock().unwrap_or_else(PoisonError::into_inner).insert("demo".to_owned(), stack.api());
        let known = issuers.clone();
        let utc_offset = profile.utc_offset_min.map_or(UtcOffset::Untold, UtcOffset::Minutes);
        let mut config = Config { network: profile.network, utc_offset, ..Config::default() };
        // Tests look at what an ack does; they do not wait for it to find company.
        config.ack.max_delay = Duration::from_millis(5);
        config.backoff.initial = Duration::from_millis(100);
        config.backoff.cap = Duration::from_secs(1);
        let mut builder = Device::builder(name);
        if transport.is_secure() {
            builder = builder.tls(Tls::with_roots(&stack.room_roots()?)?);
        }
        builder = match address {
            Some(address) => builder.address(&address.to_string()),
            None => builder.dispatcher(&stack.addresses().route),
        };
        let (device, events) = builder
            .transport(transport)
            .config(config)
            .restore(saved)
            .token(move |app, uid| {
                let app = external::answer(app.to_string());
                let issuer = known.lock().unwrap_or_else(PoisonError::into_inner).get(&app).cloned();
                async move {
                    let issuer = issuer.ok_or("nobody issues tokens of this app")?;
                    issuer.token(&app, &uid).await.map_err(Into::into)
                }
            })
            .start()?;
        Ok(Self { device, events, unread: VecDeque::new(), issuers })
    }

    /// A device of this user of the demo app, bound.
    ///
    /// # Errors
    /// When it does not get bound.
    pub async fn bound(stack: &Stack, uid: &str) -> anyhow::Result<Self> {
        Self::bound_with_tags(stack, uid, &[]).await
    }

    /// Likewise, with tags.
    ///
    /// # Errors
    /// When it does not get bound.
    pub async fn bound_with_tags(stack: &Stack, uid: &str, tags: &[&str]) -> anyhow::Result<Self> {
        let mut device = Self::start(stack, &format!("device-of-{uid}"))?;
        device.bind("demo", uid, tags).await?;
        Ok(device)
    }

    /// A device of this user of the demo app that tells this of itself, bound.
    ///
    /// # Errors
    /// When it does not get bound.
    pub async fn bound_as(stack: &Stack, uid: &str, profile: &Profile) -> anyhow::Result<Self> {
        let name = format!("device-of-{uid}");
        let mut device = Self::assemble(stack, &name, Snapshot::default(), Transport::Native, None, profile)?;
        let app = external::app("demo").parse()?;
        let binding = device.device.bind_with(app, uid.parse()?, profile.traits()).await?;
        device.expect_bound(binding).await?;
        Ok(device)
    }

    /// From here on, tokens of this app are issued by `api`.
    pub fn knows(&self, app: &str, api: ApiClient) {
        self.issuers.lock().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned(), api);
    }

    /// Binds and waits until the binding stands.
    ///
    /// # Errors
    /// When it does not.
    pub async fn bind(&mut self, app: &str, uid: &str, tags: &[&str]) -> anyhow::Result<BindingId> {
        let tags = tags.iter().map(|t| (*t).to_owned());
        let binding = self.device.bind(external::app(app).parse()?, uid.parse()?, tags).await?;
        self.expect_bound(binding).await?;
        Ok(binding)
    }

    /// Waits until the binding stands.
    ///
    /// # Errors
    /// When it does not.
    pub async fn expect_bound(&mut self, binding: BindingId) -> anyhow::Result<AppId> {
        let outcome = self
            .expect("Bound", |event| match event {
                Event::Bound { binding: b, app, .. } if *b == binding => Some(Ok(*app)),
                Event::BindFailed { binding: b, code, message, gives_up: true } if *b == binding => {
                    Some(Err(format!("the bind failed: {code:?} {message}")))
                }
                _ => None,
            })
            .await?;
        outcome.map_err(anyhow::Error::msg)
    }

    /// Takes a binding away and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go.
    pub async fn unbind(&mut self, binding: BindingId) -> anyhow::Result<()> {
        self.device.unbind(binding).await?;
        let reason = self.expect_unbound().await?;
        ensure!(reason == UnboundReason::Requested, "unbound as {reason:?}");
        Ok(())
    }

    /// The device itself.
    pub fn sdk(&self) -> &Device {
        &self.device
    }

    /// The next message to one user.
    ///
    /// # Errors
    /// When none comes.
    pub async fn expect_message(&mut self) -> anyhow::Result<Message> {
        let take =
            |event: &Event| if let Event::Message(message) = event { Some(message.clone()) } else { None };
        self.expect("a message", take).await
    }

    /// The next message to one user, which must be this text.
    ///
    /// # Errors
    /// When another one comes, or none.
    pub async fn expect_text(&mut self, text: &str) -> anyhow::Result<Message> {
        let message = self.expect_message().await.with_context(|| format!("waiting for {text:?}"))?;
        ensure!(message.payload == text.as_bytes(), "expected {text:?}, got {message:?}");
        Ok(message)
    }

    /// The next broadcast, which must be this text.
    ///
    /// # Errors
    /// When another one comes, or none.
    pub async fn expect_broadcast(&mut self, text: &str) -> anyhow::Result<Broadcast> {
        let take = |event: &Event| if let Event::Broadcast(b) = event { Some(b.clone()) } else { None };
        let broadcast = self.expect(&format!("the broadcast {text:?}"), take).await?;
        ensure!(broadcast.payload == text.as_bytes(), "expected {text:?}, got {broadcast:?}");
        Ok(broadcast)
    }

    /// The next message that was taken back.
    ///
    /// # Errors
    /// When none comes.
    pub async fn expect_recall(&mut self) -> anyhow::Result<MessageId> {
        self.expect("a recall", |event| if let Event::Recalled { id, .. } = event { Some(*id) } else { None })
            .await
    }

    /// The next end of a binding.
    ///
    /// # Errors
    /// When none ends.
    pub async fn expect_unbound(&mut self) -> anyhow::Result<UnboundReason> {
        let take =
            |event: &Event| if let Event::Unbound { reason, .. } = event { Some(*reason) } else { None };
        self.expect("the end of a binding", take).await
    }

    /// The next event for which `take` gives something. Others stay, for whoever waits for them.
    ///
    /// # Errors
    /// When none comes.
    pub async fn expect<T>(&mut self, what: &str, take: impl Fn(&Event) -> Option<T>) -> anyhow::Result<T> {
        if let Some((at, found)) =
            self.unread.iter().enumerate().find_map(|(at, event)| Some((at, take(event)?)))
        {
            self.unread.remove(at);
            return Ok(found);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = match timeout_at(deadline, self.events.next()).await {
                Ok(event) => event.with_context(|| format!("the device ended; {what} did not come"))?,
                Err(_) => bail!("{what} did not come within {PATIENCE:?}; this did: {:?}", self.unread),
            };
            self.events.confirm_last();
            match take(&event) {
                Some(found) => return Ok(found),
                None => self.unread.push_back(event),
            }
        }
    }

    /// No message and no broadcast comes for this long, or came before without being waited for.
    ///
    /// # Errors
    /// When one does.
    pub async fn expect_nothing(&mut self, time: Duration) -> anyhow::Result<()> {
        let is_message = |event: &Event| matches!(event, Event::Message(_) | Event::Broadcast(_));
        if let Some(event) = self.unread.iter().find(|event| is_message(event)) {
            bail!("nothing should have come, but {event:?}");
        }
        let deadline = Instant::now() + time;
        while let Ok(event) = timeout_at(deadline, self.events.next()).await {
            let event = event.context("the device ended")?;
            ensure!(!is_message(&event), "nothing should come, but {event:?}");
            self.unread.push_back(event);
        }
        Ok(())
    }

    /// Whether its connection has ended since the test looked last. Events that still wait to be read do not count.
    pub fn saw_disconnect(&self) -> bool {
        self.unread.iter().any(|event| matches!(event, Event::Disconnected(_)))
    }

    /// Acks, unbinds and closes; what the device keeps.
    pub async fn close(self) -> Snapshot {
        let Self { device, mut events, .. } = self;
        // It would wait for room in the queue if nobody took the last events.
        let (snapshot, ()) = tokio::join!(device.close(), async { while events.next().await.is_some() {} });
        snapshot
    }
}
