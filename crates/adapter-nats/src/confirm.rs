//! What streams answer to messages that were published to them.
//!
//! The client's own way makes a request of each message, with an inbox, a channel, timers and a
//! permit of its own. Here all answers of a connection come by one subscription, and the last token of
//! their subject says which message of which batch they are about.
//!
//! Invariants:
//! - The subscription is there before anything is published.
//! - So many answers are awaited at most that they fit in the subscription's buffer, beyond which the
//!   client would drop them.
//! - A batch is forgotten as soon as nobody waits for it; answers that come later are dropped.

use std::{
    collections::HashMap,
    fmt::Write as _,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_nats::{Client, Message, StatusCode, Subject, jetstream};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use transload_adapter::SendError;

use crate::{error::Loss, link::Link};

/// How many messages may wait for the answers of streams on one connection.
const UNANSWERED_MAX: usize = 16_384;
/// How many answers are read in one run.
const RUN_MAX: usize = 256;

/// What a stream, or the server in its place, has said to one message.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The message is in the stream, now or since an earlier attempt.
    Stored,
    /// No stream takes messages with this subject.
    NoStream,
    /// The stream does not take it.
    Refused(jetstream::Error),
    /// Something that is no answer of a stream.
    Unreadable,
}

/// Why nothing may be published to streams now.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// Too many messages wait for their answers.
    Full,
    /// The answers cannot be subscribed to.
    NoSubscription(String),
}

impl NotReady {
    /// What it means for each message that was to be published.
    pub(crate) fn error(&self) -> SendError {
        match self {
            Self::Full => {
                let reason = "too many messages wait for the confirmations of streams".into();
                SendError::Busy { after: None, reason }
            }
            Self::NoSubscription(reason) => SendError::Disconnected(Loss::boxed(reason)),
        }
    }
}

/// Where the answers of one connection arrive.
#[derive(Debug)]
pub(crate) struct Confirmations {
    client: Client,
    link: Arc<Link>,
    tasks: TaskTracker,
    places: Arc<Semaphore>,
    /// Made with the first batch, since some connections publish to no stream.
    open: OnceCell<Open>,
}

#[derive(Debug)]
struct Open {
    inbox: String,
    batches: Arc<Mutex<Batches>>,
    /// Ends the task that reads; the subscription would keep the connection open.
    _reading: DropGuard,
}

#[derive(Debug, Default)]
struct Batches {
    last: u64,
    waiting: HashMap<u64, Batch>,
}

#[derive(Debug)]
struct Batch {
    answers: Vec<Option<Answer>>,
    missing: usize,
    complete: oneshot::Sender<Vec<Option<Answer>>>,
}

impl Confirmations {
    pub(crate) fn new(client: &Client, link: &Arc<Link>, tasks: &TaskTracker) -> Self {
        Self {
            client: client.clone(),
            link: Arc::clone(link),
            tasks: tasks.clone(),
            places: Arc::new(Semaphore::new(UNANSWERED_MAX)),
            open: OnceCell::new(),
        }
    }

    /// Prepares for the answers to so many messages.
    pub(crate) async fn expect(&self, count: usize) -> Result<Expected, NotReady> {
        let places = u32::try_from(count).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).try_acquire_many_owned(places);
        let places = places.map_err(|_| NotReady::Full)?;
        let Open { inbox, batches, .. } = self.open.get_or_try_init(|| self.subscribe()).await?;
        let (number, answered) = lock(batches).add(count);
        Ok(Expected {
            number,
            prefix: format!("{inbox}.{number}-"),
            batches: Arc::clone(batches),
            answered,
            _places: places,
        })
    }

    async fn subscribe(&self) -> Result<Open, NotReady> {
        let inbox = self.client.new_inbox();
        let subscribed = self.client.subscribe(format!("{inbox}.*")).await;
        let messages = subscribed.map_err(|error| NotReady::NoSubscription(error.to_string()))?;
        let mut runs = messages.ready_chunks(RUN_MAX);
        let batches = Arc::<Mutex<Batches>>::default();
        let over = CancellationToken::new();
        let reading = over.clone().drop_guard();
        let open = Open { inbox, batches: Arc::clone(&batches), _reading: reading };
        let link = Arc::clone(&self.link);
        self.tasks.spawn(async move {
            let mut over = pin!(async {
                tokio::select! {
                    () = link.lost() => {}
                    () = over.cancelled() => {}
                }
            });
            loop {
                let run = tokio::select! {
                    biased;
                    run = runs.next() => run,
                    () = &mut over => return,
                };
                let Some(run) = run else { return };
                lock(&batches).take(&run);
            }
        });
        Ok(open)
    }
}

impl Batches {
    /// A batch of so many messages: its number, and where its answers come when they are complete.
    fn add(&mut self, count: usize) -> (u64, oneshot::Receiver<Vec<Option<Answer>>>) {
        let (complete, answered) = oneshot::channel();
        let answers = std::iter::repeat_with(|| None).take(count).collect();
        self.last += 1;
        self.waiting.insert(self.last, Batch { answers, missing: count, complete });
        (self.last, answered)
    }

    /// Takes answers, and hands over the batches that are complete with them.
    fn take(&mut self, run: &[Message]) {
        for message in run {
            let Some((number, place)) = token(&message.subject) else { continue };
            self.answer(number, place, || read(message));
        }
    }

    fn answer(&mut self, number: u64, place: usize, answer: impl FnOnce() -> Answer) {
        let Some(batch) = self.waiting.get_mut(&number) else { return };
        let Some(empty) = batch.answers.get_mut(place).filter(|known| known.is_none()) else {
            return;
        };
        *empty = Some(answer());
        batch.missing -= 1;
        if batch.missing == 0
            && let Some(Batch { answers, complete, .. }) = self.waiting.remove(&number)
        {
            // Whoever waited may be gone.
            drop(complete.send(answers));
        }
    }
}

/// The answers to one batch, until they are here or not wanted any more.
#[derive(Debug)]
pub(crate) struct Expected {
    number: u64,
    prefix: String,
    batches: Arc<Mutex<Batches>>,
    answered: oneshot::Receiver<Vec<Option<Answer>>>,
    _places: OwnedSemaphorePermit,
}

impl Expected {
    /// The subject for the answer to the message at this place of the batch.
    pub(crate) fn reply(&self, place: usize) -> Subject {
        /// Digits of the largest batch.
        const DIGITS: usize = 5;
        let mut subject = String::with_capacity(self.prefix.len() + DIGITS);
        subject.push_str(&self.prefix);
        // Writing to memory does not fail.
        let _ = write!(subject, "{place}");
        subject.into()
    }

    /// Resolves when there is nothing to wait for any more, and tells what was answered by place; with
    /// the time-out, or the loss of the connection, some places are empty.
    pub(crate) async fn answers(
        mut self,
        give_up: impl Future<Output = ()>,
    ) -> Vec<Option<Answer>> {
        let answered = tokio::select! {
            biased;
            answered = &mut self.answered => answered.ok(),
            () = give_up => None,
        };
        answered.or_else(|| self.partial()).unwrap_or_default()
    }

    /// Does without an answer to a message that was not published.
    pub(crate) fn without(&self, place: usize) {
        lock(&self.batches).answer(self.number, place, || Answer::Unreadable);
    }

    fn partial(&mut self) -> Option<Vec<Option<Answer>>> {
        let batch = lock(&self.batches).waiting.remove(&self.number);
        // It may have been completed in this very moment.
        batch.map(|batch| batch.answers).or_else(|| self.answered.try_recv().ok())
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.batches).waiting.remove(&self.number);
    }
}

fn lock(batches: &Mutex<Batches>) -> MutexGuard<'_, Batches> {
    batches.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the batch, and the place in it, by the last token of the subject.
fn token(subject: &str) -> Option<(u64, usize)> {
    let (_, token) = subject.rsplit_once('.')?;
    let (number, place) = token.split_once('-')?;
    Some((number.parse().ok()?, place.parse().ok()?))
}

fn read(message: &Message) -> Answer {
    /// A `PubAck` or an error, of which no more is read than what matters.
    #[derive(Deserialize)]
    struct Said {
        error: Option<jetstream::Error>,
        seq: Option<u64>,
    }

    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Answer::NoStream;
    }
    match serde_json::from_slice(&message.payload) {
        Ok(Said { error: Some(error), .. }) => Answer::Refused(error),
        Ok(Said { seq: Some(_), .. }) => Answer::Stored,
        Ok(Said { .. }) | Err(_) => Answer::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(token: &str, payload: &str) -> Message {
        Message {
            subject: format!("_INBOX.abc.{token}").into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status: None,
            description: None,
            length: payload.len(),
        }
    }

    #[test]
    fn a_batch_is_complete_with_the_last_answer_whatever_their_order() {
        let mut all = Batches::default();
        let ((_, mut first), (_, mut second)) = (all.add(2), all.add(1));
        let stored = r#"{"stream":"S","seq":7}"#;
        all.take(&[message("1-1", stored), message("1-1", stored), message("9-0", stored)]);
        assert!(first.try_recv().is_err());
        all.take(&[message("2-0", stored), message("1-0", stored)]);
        for answers in [first.try_recv().unwrap(), second.try_recv().unwrap()] {
            assert!(answers.iter().all(|one| matches!(one, Some(Answer::Stored))), "{answers:?}");
        }
        assert!(all.waiting.is_empty());
    }

    #[test]
    fn what_is_no_answer_of_a_batch_is_passed_over() {
        for subject in ["", "a", "a.b", "a.1", "a.1-", "a.-1", "a.x-y", "a.1-2-3"] {
            assert_eq!(token(subject), None, "{subject}");
        }
        assert_eq!(token("_INBOX.abc.12-34"), Some((12, 34)));
    }

    #[test]
    fn answers_are_told_apart() {
        let stored = read(&message("", r#"{"stream":"S","seq":7,"duplicate":true,"domain":"d"}"#));
        assert!(matches!(stored, Answer::Stored), "{stored:?}");
        let refusal =
            r#"{"error":{"code":400,"err_code":10060,"description":"no"},"stream":"S","seq":0}"#;
        let refused = read(&message("", refusal));
        assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
        for text in ["", "{}", "[]", "+OK", r#"{"stream":"S"}"#] {
            let unreadable = read(&message("", text));
            assert!(matches!(unreadable, Answer::Unreadable), "{text}: {unreadable:?}");
        }
        let nobody = Message { status: Some(StatusCode::NO_RESPONDERS), ..message("", "") };
        assert!(matches!(read(&nobody), Answer::NoStream));
    }
}
