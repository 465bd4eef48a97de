//! A device's wish to bind: judged by what it says, then handed on.

use audience::Device;
use wire::{
    frame::{Bind, BindCode, BindFailed},
    id::{AppId, AppKey, Uid},
    limits,
};

use super::{
    Sessions,
    binding::{Binding, State},
    flags::Flags,
    outlet::Outlet,
    tell,
};
use crate::exchange::{BindAsk, BindingKey, ConnKey};

impl Sessions {
    pub(crate) fn on_bind(&mut self, slot: u32, bind: Bind, out: &mut impl Outlet) {
        let number = bind.binding;
        let failure = match self.admit(slot, &bind) {
            Err(failure) => failure,
            Ok((app, uid)) => match self.start_bind(slot, bind, app, uid) {
                Ok(()) => return,
                Err(()) => (BindCode::Busy, "the room is busy"),
            },
        };
        self.bind_failed(slot, number, failure.0, failure.1, None, out);
    }

    /// Judges a bind by what it says.
    fn admit(&self, slot: u32, bind: &Bind) -> Result<(AppKey, Uid), (BindCode, &'static str)> {
        let bad = |what| (BindCode::BadRequest, what);
        if self.find(slot, bind.binding).is_some() {
            return Err((BindCode::Duplicate, "the binding number is in use"));
        }
        let bindings = self.conns.get(slot as usize).map_or(0, |session| session.bindings);
        if bindings >= self.limits.bindings_per_connection {
            return Err((BindCode::TooMany, "the connection has as many bindings as it may"));
        }
        if self.bindings.len() >= self.limits.bindings {
            return Err((BindCode::Busy, "the room has as many bindings as it may"));
        }
        if bind.token.len() > limits::MAX_TOKEN_BYTES {
            return Err(bad("the token is too long"));
        }
        let length = |tag: &String| (1..=limits::MAX_TAG_BYTES).contains(&tag.len());
        if bind.tags.len() > limits::MAX_TAGS || !bind.tags.iter().all(length) {
            return Err(bad("at most 32 tags of 1 to 64 bytes"));
        }
        let app = AppKey::new(&bind.app).map_err(|_| bad("app must have 1 to 64 of a-z 0-9 - _ ."))?;
        let uid = Uid::new(&bind.uid).map_err(|_| bad("uid must have 1 to 128 bytes"))?;
        Ok((app, uid))
    }

    fn start_bind(&mut self, slot: u32, bind: Bind, app: AppKey, uid: Uid) -> Result<(), ()> {
        let generation = self.next_generation();
        let told = self.told(slot);
        let version = Device::told(0, None, &bind.app_version).version;
        let device = Device { network: told.network, offset: told.offset, version, place: 0 };
        let Some(session) = self.conns.get_mut(slot as usize) else { return Err(()) };
        let entry = self.bindings.vacant_entry();
        let key = BindingKey { slot: entry.key() as u32, generation };
        let ask = BindAsk {
            binding: key,
            conn: ConnKey { slot, generation: session.generation }.id(self.thread),
            app,
            uid: uid.clone(),
            token: bind.token,
            tags: bind.tags,
            device,
            inbox: bind.inbox.map(Into::into),
            broadcasts: bind.broadcasts.map(Into::into),
        };
        self.asks.binds.push(ask).map_err(|_| ())?;
        entry.insert(Binding {
            uid,
            fence: 0,
            epoch: 0,
            sent: 0,
            told: 0,
            acked: 0,
            cursor: 0,
            bsent: 0,
            backed: 0,
            bsaved: 0,
            tags: None,
            generation,
            app: AppId(0),
            conn: slot,
            conn_generation: session.generation,
            number: bind.binding,
            next: session.first,
            place: 0,
            state: State::Pending,
            flags: Flags::default(),
            network: device.network,
            offset: device.offset,
        });
        session.first = key.slot;
        session.bindings += 1;
        Ok(())
    }

    /// Takes the oldest binds that are to be asked for, at most `max`, but for those of devices that have gone. After a room stood
    /// still, the bind and the end of a connection come out of its socket together; the device is elsewhere by then, and its
    /// session there would be replaced by one that nobody holds.
    pub fn take_binds(&mut self, max: usize) -> Vec<BindAsk> {
        let mut asks = self.asks.binds.take(max);
        asks.retain(|ask| match self.binding(ask.binding).map(|binding| binding.state) {
            Some(State::Cancelled) => {
                self.free(ask.binding.slot);
                false
            }
            state => state.is_some(),
        });
        asks
    }

    pub(crate) fn bind_failed(
        &mut self,
        slot: u32,
        binding: u32,
        code: BindCode,
        message: &str,
        retry_after_ms: Option<u32>,
        out: &mut impl Outlet,
    ) {
        self.answer_connect(slot, out);
        self.tally.bind_failed(code);
        let retry_after_ms = match (code, retry_after_ms) {
            (BindCode::Busy, told) => {
                let least = told.filter(|told| *told > 0).unwrap_or(self.limits.retry_after_ms);
                self.jitter.from(least)
            }
            (_, told) => told.unwrap_or(0),
        };
        tell(
            out,
            slot,
            BindFailed { binding, code: code.into(), message: message.to_owned(), retry_after_ms },
        );
    }
}
