//! The frames, generated from `proto/longwire/v1/client.proto`.
//!
//! `ClientFrame` and `ServerFrame` each hold one of the other messages in `body`; `From` puts it there.

mod generated {
    // Generated code: its documentation is the comments of the .proto file, and not every variant has one.
    #![allow(missing_docs, clippy::all, unreachable_pub)]
    include!(concat!(env!("OUT_DIR"), "/longwire.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/longwire.v1.serde.rs"));
}

pub use generated::client_frame::Body as ClientBody;
pub use generated::server_frame::Body as ServerBody;
pub use generated::*;

macro_rules! into_frame {
    ($frame:ident, $body:ident: $($message:ident),+) => {
        $(impl From<$message> for $frame {
            fn from(message: $message) -> Self {
                Self { body: Some($body::$message(message)) }
            }
        })+
    };
}

into_frame!(ClientFrame, ClientBody: Connect, Bind, Unbind, Ack, Up, Ping, Leave);
into_frame!(
    ServerFrame, ServerBody: Connected, Bound, BindFailed, Unbound, Push, Broadcast, Recall, UpAck,
    Reconnect, Close, Pong, Rebased, Error
);

impl ClientFrame {
    /// Name of the frame for logs and metric labels; `"unknown"` if this version does not know it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.body {
            None => "unknown",
            Some(ClientBody::Connect(_)) => "connect",
            Some(ClientBody::Bind(_)) => "bind",
            Some(ClientBody::Unbind(_)) => "unbind",
            Some(ClientBody::Ack(_)) => "ack",
            Some(ClientBody::Up(_)) => "up",
            Some(ClientBody::Ping(_)) => "ping",
            Some(ClientBody::Leave(_)) => "leave",
        }
    }
}

impl ServerFrame {
    /// Name of the frame for logs and metric labels; `"unknown"` if this version does not know it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match &self.body {
            None => "unknown",
            Some(ServerBody::Connected(_)) => "connected",
            Some(ServerBody::Bound(_)) => "bound",
            Some(ServerBody::BindFailed(_)) => "bind_failed",
            Some(ServerBody::Unbound(_)) => "unbound",
            Some(ServerBody::Push(_)) => "push",
            Some(ServerBody::Broadcast(_)) => "broadcast",
            Some(ServerBody::Recall(_)) => "recall",
            Some(ServerBody::UpAck(_)) => "up_ack",
            Some(ServerBody::Reconnect(_)) => "reconnect",
            Some(ServerBody::Close(_)) => "close",
            Some(ServerBody::Pong(_)) => "pong",
            Some(ServerBody::Rebased(_)) => "rebased",
            Some(ServerBody::Error(_)) => "error",
        }
    }
}
