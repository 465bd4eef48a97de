use super::*;
use wire::id::Epoch;

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn bound(start: Position) -> Inbox {
    let mut inbox = Inbox::new(None, 8);
    inbox.continue_at(start);
    inbox
}

/// Message n has the id 100 + n.
fn accept(inbox: &mut Inbox, seq: u64, skip: u64) -> Verdict {
    inbox.accept(Seq(seq), skip, MessageId(100 + seq))
}

#[test]
fn order_skips_repeats_and_holes() {
    let mut inbox = bound(at(1, 3));
    assert_eq!(accept(&mut inbox, 4, 0), Verdict::New);
    assert_eq!(accept(&mut inbox, 4, 0), Verdict::Repeat);
    assert_eq!(accept(&mut inbox, 6, 0), Verdict::Hole);
    assert_eq!(accept(&mut inbox, 6, 1), Verdict::New);
    assert_eq!(accept(&mut inbox, 8, u64::MAX), Verdict::New);
    assert_eq!(accept(&mut inbox, 2, 0), Verdict::Repeat);
    assert_eq!(inbox.received(), at(1, 8));
}

#[test]
fn confirmation_is_cumulative_and_bounded() {
    let mut inbox = bound(at(1, 0));
    for seq in 1..=5 {
        accept(&mut inbox, seq, 0);
    }
    assert_eq!(inbox.to_ack(), None);
    assert!(inbox.confirm(at(1, 3)));
    assert!(!inbox.confirm(at(1, 2)), "it never goes back");
    assert!(!inbox.confirm(at(1, 6)), "nor beyond what was handed out");
    assert_eq!((inbox.to_ack(), inbox.unacked()), (Some(at(1, 3)), 3));
    inbox.acked(at(1, 3));
    assert_eq!(inbox.to_ack(), None);
    assert_eq!(inbox.resume(), Some(at(1, 3)));
}

#[test]
fn after_a_cut_the_unconfirmed_come_again_but_are_not_handed_out_again() {
    let mut inbox = bound(at(1, 0));
    for seq in 1..=3 {
        accept(&mut inbox, seq, 0);
    }
    inbox.confirm(at(1, 1));
    inbox.continue_at(at(1, 1));
    assert_eq!(accept(&mut inbox, 2, 0), Verdict::Repeat);
    assert_eq!(accept(&mut inbox, 3, 0), Verdict::Repeat);
    assert_eq!(accept(&mut inbox, 4, 0), Verdict::New);
}

#[test]
fn a_repeat_of_a_confirmed_message_is_acked_again() {
    let mut inbox = bound(at(1, 0));
    accept(&mut inbox, 1, 0);
    inbox.confirm_all();
    inbox.acked(at(1, 1));
    accept(&mut inbox, 1, 0);
    assert_eq!(inbox.to_ack(), Some(at(1, 1)));
}

#[test]
fn the_room_may_know_of_acks_by_another_device() {
    let mut inbox = bound(at(1, 2));
    inbox.continue_at(at(1, 9));
    assert_eq!(inbox.resume(), Some(at(1, 9)));
    assert_eq!(accept(&mut inbox, 10, 0), Verdict::New);
}

#[test]
fn a_store_that_lost_everything_wins() {
    let mut inbox = Inbox::new(Some(at(7, 100)), 8);
    inbox.continue_at(at(1, 0));
    assert_eq!(accept(&mut inbox, 1, 0), Verdict::New);
    assert_eq!(inbox.resume(), Some(at(1, 0)));
    let mut inbox = Inbox::new(Some(at(7, 100)), 8);
    inbox.continue_at(at(7, 20));
    assert_eq!(accept(&mut inbox, 21, 0), Verdict::New);
}

#[test]
fn a_number_used_again_in_a_new_epoch_is_a_new_message() {
    let mut inbox = bound(at(1, 0));
    accept(&mut inbox, 1, 0);
    accept(&mut inbox, 2, 0);
    inbox.confirm_all();
    inbox.continue_at(at(2, 0));
    assert_eq!(inbox.accept(Seq(1), 0, MessageId(900)), Verdict::New);
    assert_eq!(inbox.received(), at(2, 1));
}

#[test]
fn a_message_that_comes_again_under_a_new_number_is_not_handed_out_again() {
    let mut inbox = bound(at(1, 0));
    for seq in 1..=3 {
        accept(&mut inbox, seq, 0);
    }
    inbox.confirm(at(1, 1));
    inbox.continue_at(at(2, 0));
    assert_eq!(inbox.resume(), Some(at(1, 1)), "what the app has not confirmed is not given up");
    assert_eq!(inbox.accept(Seq(1), 0, MessageId(102)), Verdict::Repeat);
    assert_eq!(inbox.accept(Seq(2), 0, MessageId(103)), Verdict::Repeat);
    assert!(inbox.confirm(at(1, 2)));
    assert_eq!(inbox.to_ack(), Some(at(1, 2)), "old messages are acked by their old numbers");
    inbox.acked(at(1, 2));
    assert!(inbox.confirm(at(1, 3)));
    assert_eq!(inbox.to_ack(), Some(at(1, 3)));
    inbox.acked(at(1, 3));
    assert_eq!(inbox.to_ack(), Some(at(2, 2)), "and what came again is done with too");
    inbox.acked(at(2, 2));
    assert_eq!(inbox.accept(Seq(3), 0, MessageId(104)), Verdict::New);
    assert!(inbox.confirm(at(2, 3)));
    assert_eq!(inbox.to_ack(), Some(at(2, 3)));
}

#[test]
fn a_new_confirmation_covers_the_older_epoch() {
    let mut inbox = bound(at(1, 0));
    accept(&mut inbox, 1, 0);
    inbox.continue_at(at(2, 5));
    accept(&mut inbox, 6, 0);
    assert!(inbox.confirm(at(2, 6)));
    assert_eq!((inbox.to_ack(), inbox.resume()), (Some(at(2, 6)), Some(at(2, 6))));
}

/// The bind of a later connection offered the old epoch, its answer named the new one, and the app's
/// confirmation of old numbers was then taken for one that goes back.
#[test]
fn a_cut_after_a_rebase_does_not_confirm_what_the_app_has_not() {
    let mut inbox = bound(at(1, 0));
    accept(&mut inbox, 1, 0);
    inbox.continue_at(at(2, 1));
    inbox.continue_at(at(2, 0));
    assert_eq!(inbox.resume(), Some(at(1, 0)));
    assert_eq!(accept(&mut inbox, 1, 0), Verdict::Repeat);
    assert!(inbox.confirm(at(1, 1)));
    assert_eq!(inbox.to_ack(), Some(at(1, 1)));
}

/// The ack of an older epoch had been sent, and was to be sent again after a resume because it might be lost. It counted for
/// nothing, so no ack was planned any more, not even of what was confirmed later.
#[test]
fn an_older_ack_that_is_told_again_holds_no_later_one_back() {
    let mut inbox = bound(at(1, 0));
    accept(&mut inbox, 1, 0);
    inbox.continue_at(at(2, 1));
    inbox.accept(Seq(2), 0, MessageId(102));
    assert!(inbox.confirm(at(1, 1)));
    inbox.acked(at(1, 1));
    inbox.offer_again();
    inbox.resumed();
    assert!(inbox.unacked() > 0, "it is to be told again");
    assert!(inbox.confirm(at(2, 2)) && inbox.unacked() > 0);
    let mut told = Vec::new();
    while let Some(at) = inbox.to_ack() {
        told.push(at);
        inbox.acked(at);
    }
    assert_eq!(told.last(), Some(&at(2, 2)));
}

#[test]
fn recent_forgets_the_oldest() {
    let mut recent = Recent::new(2);
    assert!(recent.insert(MessageId(1)) && recent.insert(MessageId(2)) && recent.insert(MessageId(3)));
    assert!(recent.insert(MessageId(1)) && !recent.insert(MessageId(3)));
}
