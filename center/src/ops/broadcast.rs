//! To all users of an app, or to those whose tags match.

use audience::Audience;
use proto::{
    internal::{AppendBroadcastRequest, AppendBroadcastResponse, BroadcastNotice},
    v1,
};

use super::{
    Caller, Ops,
    fields::Lifetime,
    idempotency::{Fingerprint, Reserved},
};
use crate::{
    auth::Scope,
    error::{Error, Result},
};

impl Ops {
    /// Puts a broadcast into the app's log and has the rooms told.
    pub async fn broadcast(
        &self,
        caller: &Caller,
        request: v1::BroadcastRequest,
    ) -> Result<v1::BroadcastResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        self.check_payload(&request.payload)?;
        let ttl = self.ttl(request.ttl_s, app.default_ttl_s)?;
        // Checked here, so that no room ever meets an expression that it cannot read.
        let audience: Audience = request
            .audience
            .parse()
            .map_err(|e: audience::ParseError| Error::invalid("audience", e.to_string()))?;
        let v1::BroadcastRequest { payload, ttl_s, audience: text, idempotency_key, .. } = request;
        let audience = if audience.is_everyone() { String::new() } else { text };
        self.take_rate(&app, 1)?;
        let Reserved { id, repeated } = if idempotency_key.is_empty() {
            Reserved { id: self.ids.next(), repeated: false }
        } else {
            let asked = Fingerprint::of("broadcast").and(audience.as_bytes()).and(&payload).and_ttl(ttl_s);
            self.reserve(&app, idempotency_key, asked).await?
        };
        let Lifetime { accepted_ms, expires_ms } = Lifetime::of(id, ttl);
        let append = AppendBroadcastRequest {
            app: app.id,
            id,
            payload: payload.clone(),
            audience: audience.clone(),
            accepted_ms,
            expires_ms,
            ..Default::default()
        };
        let AppendBroadcastResponse { epoch, bseq, .. } = self.peers.savers.append_broadcast(append).await?;
        self.metrics.broadcast.inc();
        // A repeat tells the rooms again: whoever did it first may have died in between, and rooms know what they have.
        self.notices.offer(BroadcastNotice {
            app: app.id,
            epoch,
            bseq,
            id,
            payload,
            audience,
            accepted_ms,
            expires_ms,
            ..Default::default()
        });
        Ok(v1::BroadcastResponse { id, bseq, repeated, ..Default::default() })
    }
}
