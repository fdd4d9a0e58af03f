use std::sync::Arc;

use tokio::sync::Semaphore;
use transload_envelope::{Envelope, Origin};

use crate::{Receipt, Refusal, Settlement, SettlementQueue, Share, Tag, settlement_channel};

async fn receipt(credits: &Arc<Semaphore>) -> (Receipt, SettlementQueue) {
    let (settle, queue) = settlement_channel();
    let credit = Arc::clone(credits).acquire_owned().await.unwrap();
    (Receipt::new(Tag(7), credit, settle), queue)
}

async fn share() -> (Share, SettlementQueue) {
    let (receipt, queue) = receipt(&Arc::new(Semaphore::new(1))).await;
    (receipt.share(), queue)
}

fn reply(text: &'static str) -> Settlement {
    Settlement::Replied(Box::new(Envelope::new(Origin::new("a", "fake", "x"), text)))
}

fn rejected() -> Settlement {
    Settlement::Rejected { refusal: Refusal::Target, reason: "no".into() }
}

#[tokio::test]
async fn a_settled_receipt_settles_once() {
    let (receipt, mut queue) = receipt(&Arc::new(Semaphore::new(1))).await;
    receipt.settle(Settlement::Accepted);
    let settled = queue.recv().await.unwrap();
    assert_eq!((settled.tag, settled.settlement), (Tag(7), Settlement::Accepted));
    assert!(queue.recv().await.is_none(), "no second settlement");
}

#[tokio::test]
async fn a_dropped_receipt_releases() {
    let (receipt, mut queue) = receipt(&Arc::new(Semaphore::new(1))).await;
    drop(receipt);
    assert_eq!(queue.recv().await.unwrap().settlement, Settlement::RELEASED);
}

#[tokio::test]
async fn a_panic_releases() {
    let (receipt, mut queue) = receipt(&Arc::new(Semaphore::new(1))).await;
    let task = tokio_util::task::TaskTracker::new().spawn(async move {
        let _held = receipt;
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    assert_eq!(queue.recv().await.unwrap().settlement, Settlement::RELEASED);
}

#[tokio::test]
async fn a_credit_returns_when_the_settlement_was_applied() {
    let credits = Arc::new(Semaphore::new(1));
    let (receipt, mut queue) = receipt(&credits).await;
    receipt.settle(Settlement::Accepted);
    let settled = queue.recv().await.unwrap();
    assert_eq!(credits.available_permits(), 0, "not before the endpoint is done with it");
    drop(settled);
    assert_eq!(credits.available_permits(), 1);
}

#[tokio::test]
async fn a_receipt_without_its_endpoint_returns_the_credit() {
    let credits = Arc::new(Semaphore::new(1));
    let (receipt, queue) = receipt(&credits).await;
    drop(queue);
    receipt.settle(Settlement::Accepted);
    assert_eq!(credits.available_permits(), 1);
}

#[tokio::test]
async fn a_receipt_without_credit_settles_too() {
    let (settle, mut queue) = settlement_channel();
    Receipt::without_credit(Tag(3), settle).settle(Settlement::Unrouted);
    assert_eq!(queue.recv().await.unwrap().settlement, Settlement::Unrouted);
}

#[tokio::test]
async fn the_last_share_settles() {
    let (first, mut queue) = share().await;
    let second = first.clone();
    first.settle(Settlement::Accepted);
    assert!(queue.try_recv().is_err(), "one destination is still open");
    second.settle(Settlement::Accepted);
    assert_eq!(queue.recv().await.unwrap().settlement, Settlement::Accepted);
    assert!(queue.recv().await.is_none(), "settled once");
}

#[tokio::test]
async fn a_dropped_share_releases() {
    let (first, mut queue) = share().await;
    let second = first.clone();
    first.settle(Settlement::Accepted);
    drop(second);
    assert_eq!(queue.recv().await.unwrap().settlement, Settlement::RELEASED);
}

/// Every order of two verdicts gives the worse one.
#[tokio::test]
async fn the_worst_verdict_counts() {
    let from_best_to_worst =
        [Settlement::Unrouted, Settlement::Accepted, reply("r"), rejected(), Settlement::RELEASED];
    for (better, good) in from_best_to_worst.iter().enumerate() {
        for bad in from_best_to_worst.iter().skip(better) {
            for (one, other) in [(good, bad), (bad, good)] {
                let (first, mut queue) = share().await;
                let second = first.clone();
                first.settle(one.clone());
                second.settle(other.clone());
                let settled = queue.recv().await.unwrap();
                assert_eq!(settled.settlement, *bad, "of {one:?} and {other:?}");
            }
        }
    }
}

#[tokio::test]
async fn of_two_replies_the_first_counts() {
    let (first, mut queue) = share().await;
    let second = first.clone();
    let early = reply("early");
    second.settle(early.clone());
    first.settle(reply("late"));
    assert_eq!(queue.recv().await.unwrap().settlement, early);
}
