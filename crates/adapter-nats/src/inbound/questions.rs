//! Which questions for messages are open to a consumer.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::client::NO_RESPONDERS;

/// How many questions are open at once.
pub(super) const QUESTIONS_MAX: usize = 2;

/// How long the server keeps a question for messages open.
pub(super) const PULL_EXPIRES: Duration = Duration::from_secs(20);

/// How long after that it may take to say that it has closed it.
const PULL_GRACE: Duration = Duration::from_secs(5);

/// The questions that are open.
#[derive(Debug, Default)]
pub(super) struct Questions {
    asked: Mutex<Asked>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    /// The oldest first.
    open: VecDeque<Question>,
    /// The next message is larger than what was asked for.
    is_too_large: bool,
    /// Why there are no more answers.
    failure: Option<String>,
    /// Once nobody takes messages any more: where those are to be given back that come.
    given_back: Option<Vec<String>>,
}

#[derive(Debug)]
struct Question {
    number: u64,
    /// How many messages it may still bring.
    missing: usize,
    /// When the server has to have ended it.
    until: Instant,
}

/// What is to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Many messages.
    Many,
    /// The next one, whatever its size.
    One,
}

/// How a question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulled {
    /// There is nothing, or not now.
    Over,
    /// The next message is larger than what was asked for.
    TooLarge,
}

impl Questions {
    /// Opens a question, and returns its number.
    pub(super) fn open(&self, messages: usize) -> u64 {
        let mut asked = self.lock();
        asked.last += 1;
        let number = asked.last;
        let until = Instant::now() + PULL_EXPIRES + PULL_GRACE;
        asked.open.push_back(Question { number, missing: messages, until });
        number
    }

    /// Waits until something may be asked. Cancel-safe.
    pub(super) async fn until_free(&self) -> Result<Ask, String> {
        loop {
            let oldest = {
                let mut asked = self.lock();
                if let Some(failure) = asked.failure.take() {
                    return Err(failure);
                }
                if !asked.is_too_large && asked.open.len() < QUESTIONS_MAX {
                    return Ok(Ask::Many);
                }
                // Those that are still open cannot bring it either.
                let Some(oldest) = asked.open.front() else {
                    asked.is_too_large = false;
                    return Ok(Ask::One);
                };
                oldest.until
            };
            if timeout_at(oldest, self.changed.notified()).await.is_err() {
                return Err("the server does not answer".to_owned());
            }
        }
    }

    /// A message has come, for the oldest question. False if nobody takes it; then it is remembered
    /// by where it is to be given back.
    pub(super) fn come(&self, reply: &str) -> bool {
        let mut asked = self.lock();
        if let Some(given_back) = &mut asked.given_back {
            given_back.push(reply.to_owned());
            return false;
        }
        let Some(oldest) = asked.open.front_mut() else { return true };
        oldest.missing = oldest.missing.saturating_sub(1);
        if oldest.missing == 0 {
            asked.open.pop_front();
            drop(asked);
            self.changed.notify_one();
        }
        true
    }

    /// Nobody takes messages any more.
    pub(super) fn give_back(&self) {
        self.lock().given_back.get_or_insert_default();
    }

    /// Where the messages are to be given back that have come since.
    pub(super) fn given_back(&self) -> Vec<String> {
        self.lock().given_back.take().unwrap_or_default()
    }

    /// The server has ended a question.
    pub(super) fn end(&self, number: Option<u64>, how: Result<Pulled, String>) {
        let mut asked = self.lock();
        asked.open.retain(|question| Some(question.number) != number);
        match how {
            Ok(Pulled::Over) => {}
            Ok(Pulled::TooLarge) => asked.is_too_large = true,
            Err(reason) => asked.failure = Some(reason),
        }
        drop(asked);
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a status ends its question, after the server's `consumer.go`; an error ends the consumer.
pub(super) fn end((code, description): (u16, &str)) -> Result<Option<Pulled>, String> {
    let over = Ok(Some(Pulled::Over));
    match code {
        // A sign of life.
        100 => Ok(None),
        // There is nothing, or was nothing for as long as it was open.
        404 | 408 => over,
        409 if description.contains("MaxBytes") => Ok(Some(Pulled::TooLarge)),
        409 if ["Leadership Change", "Server Shutdown", "Batch Completed"]
            .contains(&description) =>
        {
            over
        }
        NO_RESPONDERS => Err("nobody answers for it any more".to_owned()),
        other => Err(format!("the server says {other} {description}")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn each_status_of_a_pull_has_its_reaction() {
        for (code, description, wanted) in [
            (100, "Idle Heartbeat", Ok(None)),
            (404, "No Messages", Ok(Some(Pulled::Over))),
            (408, "Request Timeout", Ok(Some(Pulled::Over))),
            (409, "Leadership Change", Ok(Some(Pulled::Over))),
            (409, "Message Size Exceeds MaxBytes", Ok(Some(Pulled::TooLarge))),
            (409, "Consumer Deleted", Err(())),
            (409, "Consumer is push based", Err(())),
            (503, "No Responders", Err(())),
            (400, "Bad Request", Err(())),
        ] {
            assert_eq!(end((code, description)).map_err(drop), wanted, "{code} {description}");
        }
    }

    pub(in super::super) fn free(questions: &Questions) -> Option<Result<Ask, String>> {
        use futures_util::FutureExt as _;
        questions.until_free().now_or_never()
    }

    #[tokio::test]
    async fn two_questions_are_open_and_the_oldest_is_answered_first() {
        let questions = Questions::default();
        let come = || questions.come("r");
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        assert_eq!((questions.open(2), questions.open(1)), (1, 2));
        assert_eq!(free(&questions), None);
        assert!(come());
        assert_eq!(free(&questions), None);
        assert!(come());
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        assert!(come() && come(), "more than was asked for is taken all the same");
        questions.open(9);
        questions.open(9);
        questions.end(Some(1), Ok(Pulled::Over));
        assert_eq!(free(&questions), None, "that one is over for long");
        questions.end(Some(3), Ok(Pulled::Over));
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
        questions.end(None, Err("gone".to_owned()));
        assert_eq!(free(&questions), Some(Err("gone".to_owned())));
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_is_asked_for_alone() {
        let questions = Questions::default();
        let (first, second) = (questions.open(9), questions.open(9));
        questions.end(Some(first), Ok(Pulled::TooLarge));
        assert_eq!(free(&questions), None);
        questions.end(Some(second), Ok(Pulled::TooLarge));
        assert_eq!(free(&questions), Some(Ok(Ask::One)));
        assert_eq!(free(&questions), Some(Ok(Ask::Many)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_the_server_forgets_is_a_failure() {
        let questions = Questions::default();
        questions.open(9);
        questions.open(9);
        assert!(questions.until_free().await.unwrap_err().contains("does not answer"));
    }

    #[test]
    fn what_comes_at_the_end_is_given_back() {
        let questions = Questions::default();
        questions.open(2);
        assert!(questions.come("a"));
        questions.give_back();
        assert!(!questions.come("b"));
        assert_eq!(questions.given_back(), ["b"]);
    }
}
