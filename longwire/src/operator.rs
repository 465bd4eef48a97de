//! What the operator's commands share: a way into etcd, and to the nodes.

use cluster::{
    NodeInfo, Tls, TlsFiles, Transport,
    etcd::{Admin, EtcdError, EtcdOptions, EtcdTls},
};
use proto::internal::node_client::NodeClient;
use service::ExitError;

use crate::args;

/// An operator's connection.
pub(crate) struct Operator {
    pub(crate) admin: Admin,
    tls: Option<Tls>,
}

impl Operator {
    pub(crate) async fn open(args: &args::Operator) -> Result<Self, ExitError> {
        let files = match (&args.ca, &args.cert, &args.key) {
            (Some(ca), Some(cert), Some(key)) => {
                Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() })
            }
            _ => None,
        };
        let mut options = EtcdOptions::new(args.etcd.clone(), args.cluster.clone());
        options.tls = files.clone().map(|TlsFiles { ca, cert, key }| EtcdTls { ca, cert, key });
        let tls = files.map(|files| Tls::open(files, None)).transpose();
        let tls = tls.map_err(|e| ExitError::usage(format!("--{}: {e}", e.file.as_str())))?;
        let admin = Admin::connect(options).await.map_err(|error| match error {
            EtcdError::Options { field: "endpoints", reason } => {
                ExitError::usage(format!("--etcd: {reason}"))
            }
            EtcdError::Options { field, reason } => ExitError::usage(format!("--{field}: {reason}")),
            other => ExitError::failure(other),
        })?;
        Ok(Self { admin, tls })
    }

    /// A client of what every node has. Nodes are called as they call each other: over TLS if there are certificates.
    pub(crate) fn client(&self, node: &NodeInfo) -> Result<NodeClient<Transport>, ExitError> {
        let name = args::NodeName(node.role, node.id);
        let address = node.rpc.as_deref();
        let address = address.ok_or_else(|| ExitError::failure(format!("{name} has no address")))?;
        let transport = Transport::connect(address, node.role, self.tls.as_ref());
        Ok(NodeClient::new(transport.map_err(|e| ExitError::failure(format!("{name} at {address}: {e}")))?))
    }
}
