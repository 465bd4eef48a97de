//! The state of a broadcast, as people and scripts read it.

use proto::v1::BroadcastState;
use serde_json::{Value, json};

/// How it has ended, if it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All have it or were let go.
    Done,
    /// Somebody stopped it.
    Stopped,
}

pub(super) fn end(state: &BroadcastState) -> Option<End> {
    match state.state.as_str() {
        "done" => Some(End::Done),
        "cancelled" | "recalled" => Some(End::Stopped),
        _ => None,
    }
}

/// All that is known of it.
pub(super) fn json(b: &BroadcastState) -> Value {
    json!({
        "id": b.id.to_string(), "app": b.app, "state": b.state, "why": b.why, "audience": b.audience, "bseq": b.bseq,
        "accepted_ms": b.accepted_ms, "starts_ms": b.starts_ms, "ended_ms": b.ended_ms, "expires_ms": b.expires_ms,
        "released": b.released, "users_per_second": b.users_per_second,
        "users_per_second_asked": b.users_per_second_asked, "sent": b.sent, "targets": b.targets, "acked": b.acked,
        "stored": b.stored, "expired": b.expired, "dropped": b.dropped, "recalled": b.recalled,
        "recalled_users": b.recalled_users, "latency_p50_ms": b.latency_p50_ms, "latency_p95_ms": b.latency_p95_ms,
        "rooms_missed": b.rooms_missed
    })
}

pub(super) fn released(b: &BroadcastState) -> String {
    format!("{:.1}%", b.released * 100.0)
}

pub(super) fn rate(users_per_second: u32) -> String {
    match users_per_second {
        0 => "max".to_owned(),
        rate => format!("{rate}/s"),
    }
}

/// What is happening, in a line; `speed` is what was seen to be sent a second.
pub(super) fn line(b: &BroadcastState, speed: Option<f64>) -> String {
    format!("{}  {}", pace(b, speed), counts(b))
}

/// How far it is, and how fast.
pub(super) fn pace(b: &BroadcastState, speed: Option<f64>) -> String {
    let mut words = vec![b.state.clone(), format!("released {}", released(b))];
    if let Some(speed) = speed {
        words.push(format!("{speed:.0}/s"));
    }
    // By itself, it says so in `why`.
    if b.users_per_second != b.users_per_second_asked && b.why.is_empty() {
        let (now, asked) = (rate(b.users_per_second), rate(b.users_per_second_asked));
        words.push(format!("slowed to {now} of {asked}"));
    }
    words.join("  ")
}

/// What became of it so far, and why it is slow or stands still.
pub(super) fn counts(b: &BroadcastState) -> String {
    let counts = [("sent", b.sent), ("acked", b.acked), ("stored", b.stored)];
    let mut words = counts.map(|(what, n)| format!("{what} {n}")).to_vec();
    if !b.why.is_empty() {
        words.push(b.why.clone());
    }
    words.join("  ")
}

/// The ledger, in a line. It balances, or says by how much it does not.
pub(super) fn ledger(b: &BroadcastState) -> String {
    let mut parts = vec![format!("acked {}", b.acked), format!("stored {}", b.stored)];
    parts.push(format!("expired {}", b.expired));
    let dropped: u64 = b.dropped.values().sum();
    let mut reasons: Vec<_> = b.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
    reasons.sort();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    parts.push(format!("dropped {dropped}{reasons}"));
    parts.push(format!("recalled {}", b.recalled_users));
    let sum = b.acked + b.stored + b.expired + dropped + b.recalled_users;
    let off = if sum == b.targets { String::new() } else { format!("  (these are {sum})") };
    let mut line = format!("targets {} = {}{off}; sent {}", b.targets, parts.join(" + "), b.sent);
    if b.latency_p95_ms > 0 {
        line += &format!("; acked after {} ms (p50), {} ms (p95)", b.latency_p50_ms, b.latency_p95_ms);
    }
    if b.rooms_missed > 0 {
        line += &format!("; {} rooms did not answer", b.rooms_missed);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> BroadcastState {
        BroadcastState {
            id: 7,
            state: "running".to_owned(),
            released: 0.4321,
            targets: 103,
            sent: 100,
            acked: 98,
            stored: 2,
            dropped: [("behind".to_owned(), 3)].into(),
            users_per_second: 50,
            users_per_second_asked: 200,
            why: "only 40 % acked".to_owned(),
            ..BroadcastState::default()
        }
    }

    #[test]
    fn a_line_tells_what_happens_and_why() {
        let told = line(&state(), Some(49.7));
        assert_eq!(told, "running  released 43.2%  50/s  sent 100  acked 98  stored 2  only 40 % acked");
        let slowed = BroadcastState { why: String::new(), ..state() };
        assert!(line(&slowed, None).contains("slowed to 50/s of 200/s"));
        let plain = BroadcastState { state: "done".to_owned(), ..BroadcastState::default() };
        assert_eq!(line(&plain, None), "done  released 0.0%  sent 0  acked 0  stored 0");
    }

    #[test]
    fn a_ledger_balances_or_says_so() {
        assert_eq!(
            ledger(&state()),
            "targets 103 = acked 98 + stored 2 + expired 0 + dropped 3 (behind 3) + recalled 0; sent 100"
        );
        let off = BroadcastState { targets: 104, latency_p50_ms: 3, latency_p95_ms: 9, ..state() };
        let told = ledger(&off);
        assert!(told.contains("(these are 103)") && told.ends_with("3 ms (p50), 9 ms (p95)"), "{told}");
    }

    #[test]
    fn ends_are_told_from_states() {
        let of = |word: &str| end(&BroadcastState { state: word.to_owned(), ..BroadcastState::default() });
        assert_eq!(
            (of("done"), of("cancelled"), of("recalled")),
            (Some(End::Done), Some(End::Stopped), Some(End::Stopped))
        );
        for word in ["scheduled", "running", "paused", ""] {
            assert_eq!(of(word), None, "{word}");
        }
    }
}
