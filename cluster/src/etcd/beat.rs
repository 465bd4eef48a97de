//! The stream on which a lease is kept alive.

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};

use super::{EtcdError, link::Connection};

/// The stream on which the lease is kept alive.
pub(crate) struct Beat {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    pub(crate) generation: u64,
}

impl Beat {
    /// Opens the stream; that is a first beat, too.
    pub(crate) async fn open(connection: Connection, lease: i64) -> Result<Self, EtcdError> {
        let (keeper, answers) = connection.client.lease_client().keep_alive(lease).await?;
        Ok(Self { keeper, answers, generation: connection.generation })
    }

    /// One more; answers itself when the lease was prolonged.
    pub(crate) async fn again(mut self) -> Result<Self, EtcdError> {
        self.keeper.keep_alive().await?;
        match self.answers.message().await? {
            Some(answer) if answer.ttl() > 0 => Ok(self),
            Some(_) => Err(EtcdError::LeaseOver),
            None => Err(EtcdError::Away("the stream has ended".to_owned())),
        }
    }
}
