//! How devices came in, or did not.

use super::line::LineCounts;

/// Counts by reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reasons(Vec<(&'static str, u64)>);

impl Reasons {
    pub(super) fn count(&mut self, reason: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => self.0.push((reason, 1)),
        }
    }

    /// Every count, by reason.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.0.clone();
        all.sort_unstable();
        all
    }

    /// Every reason that there was, with how much more often than before.
    pub(crate) fn since<'a>(&'a self, before: &'a Self) -> impl Iterator<Item = (&'static str, u64)> + 'a {
        self.0.iter().map(|(reason, count)| {
            let known = before.0.iter().find(|(known, _)| known == reason);
            (*reason, count - known.map_or(0, |(_, before)| *before))
        })
    }
}

/// What a thread counts of the ways in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries {
    pub(crate) lines: LineCounts,
    /// What became of TLS handshakes.
    pub(crate) handshakes: Reasons,
    /// Connections that spoke nothing that is known here.
    pub(crate) strangers: Reasons,
    /// Requests for a WebSocket that were refused.
    pub(crate) refused_upgrades: Reasons,
    /// WebSockets that were ended because what came was none.
    pub(crate) broken_websockets: Reasons,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_told() {
        let mut now = Reasons::default();
        now.count("a");
        let before = now.clone();
        now.count("a");
        now.count("b");
        now.count("b");
        assert_eq!(now.since(&before).collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
    }
}
