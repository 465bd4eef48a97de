//! Settings of Redis with which it may lose what a push was answered for. It serves all the same, and says nothing itself, so the
//! log does.

use std::sync::{Mutex, PoisonError};

use tracing::{info, warn};

/// What is wrong with the settings at the moment, as the log was told.
#[derive(Default)]
pub(super) struct Perils(Mutex<Vec<&'static str>>);

impl Perils {
    /// Tells the log when it differs from what was told last: a warning, or that all is well again.
    pub(super) fn look(&self, infos: &[String]) {
        let now = found(infos);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == now {
            return;
        }
        for peril in &now {
            warn!("Redis may lose what was accepted: {peril}");
        }
        if now.is_empty() {
            info!("the settings of Redis are safe again");
        }
        *told = now;
    }
}

/// What is wrong, out of what each server's `INFO` says. Lines that a server leaves out are no peril.
fn found(infos: &[String]) -> Vec<&'static str> {
    let says = |name: &str, wrong: &dyn Fn(&str) -> bool| {
        infos.iter().any(|t| t.lines().any(|l| l.strip_prefix(name).is_some_and(|value| wrong(value.trim()))))
    };
    let mut perils = Vec::new();
    if says("maxmemory:", &|most| most != "0") && says("maxmemory_policy:", &|policy| policy != "noeviction")
    {
        perils.push("at its maxmemory it evicts inboxes; set maxmemory-policy noeviction");
    }
    if says("aof_enabled:", &|on| on == "0") {
        perils.push("a restart forgets what has not landed in MySQL; set appendonly yes");
    }
    perils
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_lose_something_is_found_among_others() {
        let info = |most: u32, policy: &str, aof: u8| {
            format!(
                "# Memory\r\nmaxmemory:{most}\r\nmaxmemory_human:8M\r\nmaxmemory_policy:{policy}\r\naof_enabled:{aof}\r\n"
            )
        };
        let well = info(8, "noeviction", 1);
        assert!(found(std::slice::from_ref(&well)).is_empty());
        // Without a bound there is nothing to evict for.
        assert!(found(&[info(0, "allkeys-lru", 1)]).is_empty());
        assert_eq!(found(&[well.clone(), info(8, "volatile-ttl", 1)]).len(), 1);
        assert_eq!(found(&[info(8, "allkeys-lru", 0), well]).len(), 2);
        assert!(found(&["# Memory\r\n".to_owned()]).is_empty());
    }
}
