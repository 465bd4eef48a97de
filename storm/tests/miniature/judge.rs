//! The judge against servers in miniature: it clears those that keep their promises, and sees every one that is
//! broken.

use std::time::Duration;

use storm::{
    scenario::{Api, Devices},
    verify::{self, Verdict, VerifyOptions},
};

use super::fake::{Fake, Fault};

fn options(fake: &Fake) -> VerifyOptions {
    VerifyOptions {
        devices: Devices {
            users: 40,
            rooms: vec![fake.room],
            secret: Some("secret".into()),
            seed: Some(7),
            ..Devices::default()
        },
        api: Api { centers: vec![fake.center.clone()], key: Some("lwk_test".into()), ..Api::default() },
        seconds: Duration::from_secs(2),
        rate: 1000.0,
        broadcasts: 10.0,
        churn: 10.0,
        drain: Duration::from_secs(10),
        settle: Duration::from_millis(100),
        quiet: true,
        ..VerifyOptions::default()
    }
}

async fn judge(fault: Fault) -> Verdict {
    let fake = Fake::start(fault).await;
    let patient = matches!(fault, Fault::None | Fault::Mute(_));
    let mut options = options(&fake);
    if !patient {
        // What is lost is not worth waiting for.
        options.drain = Duration::from_secs(3);
    }
    if matches!(fault, Fault::Deaf(_)) {
        // A device that comes back would be told what it missed.
        options.churn = 0.0;
    }
    let verdict = verify::run(options).await.unwrap();
    println!("{fault:?}:\n{verdict}");
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn clears_servers_that_keep_their_promises() {
    let verdict = judge(Fault::None).await;
    assert!(verdict.is_ok());
    assert!(verdict.accepted > 1000 && verdict.broadcasts_accepted > 5, "{verdict}");
    assert!(verdict.counts.churned > 5 && verdict.books.ledgers > 100);
    assert_eq!(verdict.counts.messages, verdict.accepted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_repeated_and_harms_nothing() {
    let verdict = judge(Fault::Mute(5)).await;
    assert!(verdict.is_ok());
    assert!(verdict.retries > 0 && verdict.repeated > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_loss() {
    let verdict = judge(Fault::Lose(100)).await;
    assert!(!verdict.is_ok() && verdict.findings.lost >= 5);
    assert_eq!((verdict.findings.doubled, verdict.findings.disordered), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_doubles() {
    let verdict = judge(Fault::Double(100)).await;
    assert!(!verdict.is_ok() && verdict.findings.doubled >= 5);
    assert_eq!(verdict.findings.lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_a_forgotten_idempotency_key() {
    let verdict = judge(Fault::Forget(10)).await;
    assert!(!verdict.is_ok() && verdict.findings.doubled >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_disorder() {
    let verdict = judge(Fault::Swap(100)).await;
    assert!(!verdict.is_ok() && verdict.findings.disordered >= 1);
    assert_eq!(verdict.findings.doubled, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_broadcasts_that_miss_a_device() {
    let verdict = judge(Fault::Deaf(10)).await;
    assert!(!verdict.is_ok() && verdict.findings.lost >= 1);
    assert!(verdict.findings.first()[0].to_string().starts_with("broadcasts at user"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sees_a_ledger_that_does_not_know_of_acks() {
    let verdict = judge(Fault::Ledger).await;
    assert!(!verdict.is_ok() && verdict.findings.ledger >= 1);
    assert_eq!(verdict.findings.lost, 0);
}
