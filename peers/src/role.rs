//! What the calls to all roles have in common: how they begin and end.

/// Defines the calls to one role, over its lines.
macro_rules! role {
    ($(#[$doc:meta])* $name:ident, $line:ty) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            links: crate::links::Links<$line>,
        }

        impl $name {
            /// Opens lines to the nodes of the role and follows the picture until `cancel`.
            #[must_use]
            pub fn new(
                cluster: &cluster::Cluster,
                limits: crate::Limits,
                cancel: tokio_util::sync::CancellationToken,
            ) -> Self {
                Self::with_metrics(cluster, limits, &crate::PeerMetrics::default(), cancel)
            }

            /// The same, counted in `metrics`.
            #[must_use]
            pub fn with_metrics(
                cluster: &cluster::Cluster,
                limits: crate::Limits,
                metrics: &crate::PeerMetrics,
                cancel: tokio_util::sync::CancellationToken,
            ) -> Self {
                Self { links: crate::links::Links::new(cluster, limits, metrics, cancel) }
            }

            /// Waits until all tasks have ended; they do when the token given at construction is cancelled.
            pub async fn closed(&self) {
                self.links.closed().await;
            }
        }
    };
}

pub(crate) use role;
