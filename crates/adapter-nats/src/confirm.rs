//! What streams answer to messages that were published to them.
//!
//! All answers of a connection come by one subscription, and the last token of their subject says which
//! message of which batch they are about.
//!
//! Invariants:
//! - The subscription is there before anything is published.
//! - What waits for answers is bounded.
//! - A batch is forgotten as soon as nobody waits for it; answers that come later are dropped.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Deserialize;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, oneshot};
use transload_adapter::SendError;

use crate::{
    client::{Client, Message, NO_RESPONDERS, Reply, Sink},
    error::ApiError,
    link::Link,
};

/// How many messages may wait for the answers of streams on one connection.
const UNANSWERED_MAX: usize = 16_384;

/// What a stream, or the server in its place, has said to one message.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The message is in the stream, now or since an earlier attempt.
    Stored,
    /// No stream takes messages with this subject.
    NoStream,
    /// The stream does not take it.
    Refused(ApiError),
    /// Something that is no answer of a stream.
    Unreadable,
}

/// Why nothing may be published to streams now.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// Too many messages wait for their answers.
    Full,
    /// The connection has ended.
    Gone,
}

impl NotReady {
    /// What it means for each message that was to be published.
    pub(crate) fn error(&self, link: &Link) -> SendError {
        match self {
            Self::Full => {
                let reason = "too many messages wait for the confirmations of streams".into();
                SendError::Busy { after: None, reason }
            }
            Self::Gone => SendError::Disconnected(link.reason()),
        }
    }
}

/// Where the answers of one connection arrive.
#[derive(Debug)]
pub(crate) struct Confirmations {
    client: Client,
    places: Arc<Semaphore>,
    /// Made with the first batch, since some connections publish to no stream.
    open: OnceCell<Open>,
}

#[derive(Debug)]
struct Open {
    inbox: String,
    batches: Arc<Mutex<Batches>>,
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
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            places: Arc::new(Semaphore::new(UNANSWERED_MAX)),
            open: OnceCell::new(),
        }
    }

    /// Prepares for the answers to so many messages.
    pub(crate) async fn expect(&self, count: usize) -> Result<Expected, NotReady> {
        let places = u32::try_from(count).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.places).try_acquire_many_owned(places);
        let places = places.map_err(|_| NotReady::Full)?;
        let Open { inbox, batches } = self.open.get_or_try_init(|| self.subscribe()).await?;
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
        let batches = Arc::<Mutex<Batches>>::default();
        let sink = Box::new(Answers(Arc::clone(&batches)));
        let subscribed = self.client.subscribe(&format!("{inbox}.*"), None, sink).await;
        subscribed.map_err(|_| NotReady::Gone)?;
        Ok(Open { inbox, batches })
    }
}

struct Answers(Arc<Mutex<Batches>>);

impl Sink for Answers {
    fn take(&mut self, message: Message<'_>) {
        if let Some((number, place)) = token(message.last_token()) {
            lock(&self.0).answer(number, place, || read(&message));
        }
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
    /// Where the answer to the message at this place of the batch goes.
    pub(crate) fn reply(&self, place: usize) -> Reply<'_> {
        Reply::Numbered(&self.prefix, place)
    }

    /// Resolves when there is nothing to wait for any more, and tells what was answered by place; when
    /// it is given up, some places are empty. Meanwhile the messages are written.
    pub(crate) async fn answers(
        mut self,
        write: impl Future<Output = ()>,
        give_up: impl Future<Output = ()>,
    ) -> Vec<Option<Answer>> {
        let mut write = pin!(write);
        let mut give_up = pin!(give_up);
        let mut is_written = false;
        let answered = loop {
            tokio::select! {
                biased;
                answered = &mut self.answered => break answered.ok(),
                () = &mut write, if !is_written => is_written = true,
                () = &mut give_up => break None,
            }
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

/// The number of the batch, and the place in it.
fn token(token: &str) -> Option<(u64, usize)> {
    let (number, place) = token.split_once('-')?;
    Some((number.parse().ok()?, place.parse().ok()?))
}

fn read(message: &Message<'_>) -> Answer {
    /// A `PubAck` or an error, of which no more is read than what matters.
    #[derive(Deserialize)]
    struct Said {
        error: Option<ApiError>,
        seq: Option<u64>,
    }

    if message.status().is_some_and(|(code, _)| code == NO_RESPONDERS) {
        return Answer::NoStream;
    }
    match serde_json::from_slice(message.payload) {
        Ok(Said { error: Some(error), .. }) => Answer::Refused(error),
        Ok(Said { seq: Some(_), .. }) => Answer::Stored,
        Ok(Said { .. }) | Err(_) => Answer::Unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::HeaderBlock;

    fn message<'a>(token: &str, payload: &'a str) -> Message<'a> {
        Message {
            subject: format!("_INBOX.abc.{token}").into(),
            payload: payload.as_bytes(),
            ..Message::default()
        }
    }

    #[test]
    fn a_batch_is_complete_with_the_last_answer_whatever_their_order() {
        let all = Arc::<Mutex<Batches>>::default();
        let mut sink = Answers(Arc::clone(&all));
        let (_, mut first) = lock(&all).add(2);
        let (_, mut second) = lock(&all).add(1);
        let stored = r#"{"stream":"S","seq":7}"#;
        for token in ["1-1", "1-1", "9-0"] {
            sink.take(message(token, stored));
        }
        assert!(first.try_recv().is_err());
        for token in ["2-0", "1-0"] {
            sink.take(message(token, stored));
        }
        for answers in [first.try_recv().unwrap(), second.try_recv().unwrap()] {
            assert!(answers.iter().all(|one| matches!(one, Some(Answer::Stored))), "{answers:?}");
        }
        assert!(lock(&all).waiting.is_empty());
    }

    #[test]
    fn what_is_no_answer_of_a_batch_is_passed_over() {
        for text in ["", "a", "1", "1-", "-1", "x-y", "1-2-3"] {
            assert_eq!(token(text), None, "{text}");
        }
        assert_eq!(token(message("12-34", "").last_token()), Some((12, 34)));
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
        let headers = Some(HeaderBlock(b"NATS/1.0 503\r\n\r\n"));
        let nobody = Message { headers, ..message("", "") };
        assert!(matches!(read(&nobody), Answer::NoStream));
    }
}
