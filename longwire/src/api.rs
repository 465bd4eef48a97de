//! Calls to a center, by gRPC.

use proto::v1::{admin_service_client::AdminServiceClient, push_service_client::PushServiceClient};
use service::ExitError;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use crate::{args, credentials};

/// A list of a million users at 32 bytes each.
const MAX_MESSAGE: usize = 64 << 20;

/// Puts the key on every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A center and the key to call it with.
#[derive(Clone)]
pub struct Api {
    channel: Channel,
    bearer: Bearer,
    /// The app that is meant unless a call says otherwise.
    pub app: String,
}

impl Api {
    /// Connects, with the key from the command line or the data folder.
    pub(crate) async fn open(args: &args::Api) -> Result<Self, ExitError> {
        let key = match &args.key {
            Some(key) => key.clone(),
            None => credentials::read(&args.data, &args.app).map_err(ExitError::failure)?.ok_or_else(|| {
                let file = credentials::key_file(&args.data, &args.app);
                ExitError::usage(format!(
                    "no API key: {} is not there; pass --key or set LONGWIRE_KEY, or name the data folder of `up` \
                     with --data",
                    file.display()
                ))
            })?,
        };
        Self::connect(&args.api, &key, &args.app).await
    }

    /// Connects to a center at `url`.
    ///
    /// # Errors
    /// When the address is none or nobody answers there.
    pub async fn connect(url: &str, key: &str, app: &str) -> Result<Self, ExitError> {
        let bearer = format!("Bearer {key}")
            .parse()
            .map_err(|_| ExitError::usage("the API key holds characters that no key has"))?;
        let endpoint = Endpoint::from_shared(url.to_owned())
            .map_err(|e| ExitError::usage(format!("--api {url:?} is no address: {e}")))?;
        let channel = endpoint.connect().await.map_err(|e| {
            ExitError::failure(format!(
                "no center answers at {url}: {}; is `longwire up` running?",
                root_cause(&e)
            ))
        })?;
        Ok(Self { channel, bearer: Bearer(bearer), app: app.to_owned() })
    }

    /// The calls on messages and users.
    pub fn push(&self) -> PushServiceClient<InterceptedService<Channel, Bearer>> {
        PushServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
            .max_encoding_message_size(MAX_MESSAGE)
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// The calls on apps.
    pub fn admin(&self) -> AdminServiceClient<InterceptedService<Channel, Bearer>> {
        AdminServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }
}

/// What the API said, as the one line of a failed command.
pub(crate) fn refused(status: &Status) -> ExitError {
    ExitError::failure(format!("{} ({:?})", status.message(), status.code()))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
