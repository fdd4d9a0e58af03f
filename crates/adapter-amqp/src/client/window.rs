//! The messages of one channel that the broker has not answered for.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use transload_envelope::Text;

use super::error::Error;

/// What the broker said of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing.
    #[default]
    Open,
    /// It has taken it (`basic.ack`).
    Taken,
    /// It has not (`basic.nack`).
    NotTaken,
}

/// A message that the broker gave back, since no queue takes it (`basic.return`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) message_id: Option<Text>,
    pub(crate) exchange: Text,
    pub(crate) routing_key: Text,
    pub(crate) reason: String,
}

/// What the broker said of the messages of one call.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Of each, in order.
    pub(crate) each: Vec<Answer>,
    /// What was returned meanwhile on the channel; it may be of another call.
    pub(crate) returned: Vec<Returned>,
    /// Why there are no more answers.
    pub(crate) end: Option<Error>,
}

impl Answers {
    /// None, since the connection was lost.
    pub(crate) fn lost(error: Error) -> Self {
        Self { end: Some(error), ..Self::default() }
    }
}

/// The messages of one call.
#[derive(Debug)]
struct Batch {
    /// The delivery tag of the first.
    first: u64,
    open: usize,
    answers: Answers,
    /// Nobody may wait any more; the messages have their answers all the same.
    done: oneshot::Sender<Answers>,
}

/// What one channel waits for.
#[derive(Debug)]
pub(super) struct Window {
    /// The delivery tag of the next message: the broker counts from 1 on each channel.
    next: u64,
    batches: VecDeque<Batch>,
}

impl Default for Window {
    fn default() -> Self {
        Self { next: 1, batches: VecDeque::new() }
    }
}

impl Window {
    /// Enters messages in the order in which they are written.
    pub(super) fn enter(&mut self, messages: usize, done: oneshot::Sender<Answers>) {
        if messages == 0 {
            // Nobody needs an answer of nothing.
            drop(done.send(Answers::default()));
            return;
        }
        let answers = Answers { each: vec![Answer::Open; messages], ..Answers::default() };
        self.batches.push_back(Batch { first: self.next, open: messages, answers, done });
        self.next += messages as u64;
    }

    /// Takes an answer for one message, or with `multiple` for all up to it; tag 0 is all there
    /// are (AMQP 0-9-1, section 1.8.3.13). False if there was no such message.
    pub(super) fn answer(&mut self, tag: u64, multiple: bool, answer: Answer) -> bool {
        let last = if multiple && tag == 0 { self.next - 1 } else { tag };
        if last >= self.next || (last == 0 && !multiple) {
            return false;
        }
        let mut finished = false;
        for batch in &mut self.batches {
            let Some(place) = last.checked_sub(batch.first) else { break };
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            if multiple {
                batch.answer_to(place, answer);
            } else {
                batch.answer_one(place, answer);
            }
            finished |= batch.open == 0;
        }
        if finished {
            self.hand_over();
        }
        true
    }

    /// Keeps what was returned for whoever sent it: the answer for it comes after it, so its call
    /// still waits.
    pub(super) fn returned(&mut self, returned: &Returned) {
        for batch in &mut self.batches {
            batch.answers.returned.push(returned.clone());
        }
    }

    /// Tells all who wait that no more answers come.
    pub(super) fn end(&mut self, error: &Error) {
        for Batch { mut answers, done, .. } in self.batches.drain(..) {
            answers.end = Some(error.clone());
            drop(done.send(answers));
        }
    }

    fn hand_over(&mut self) {
        while let Some(place) = self.batches.iter().position(|batch| batch.open == 0) {
            if let Some(Batch { answers, done, .. }) = self.batches.remove(place) {
                drop(done.send(answers));
            }
        }
    }
}

impl Batch {
    fn answer_one(&mut self, place: usize, answer: Answer) {
        if let Some(open) = self.answers.each.get_mut(place).filter(|one| **one == Answer::Open) {
            *open = answer;
            self.open -= 1;
        }
    }

    fn answer_to(&mut self, place: usize, answer: Answer) {
        let upto = place.saturating_add(1);
        let open = self.answers.each.iter_mut().take(upto).filter(|one| **one == Answer::Open);
        for one in open {
            *one = answer;
            self.open -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer::*, *};

    fn enter(window: &mut Window, messages: usize) -> oneshot::Receiver<Answers> {
        let (done, answers) = oneshot::channel();
        window.enter(messages, done);
        answers
    }

    fn each(answers: &mut oneshot::Receiver<Answers>) -> Option<Vec<Answer>> {
        answers.try_recv().ok().map(|answers| answers.each)
    }

    #[test]
    fn a_call_has_its_answers_when_all_are_there() {
        let mut window = Window::default();
        let (mut first, mut second) = (enter(&mut window, 3), enter(&mut window, 2));
        assert!(window.answer(2, false, NotTaken));
        assert!(window.answer(5, false, Taken));
        assert!(window.answer(5, false, NotTaken), "told twice, the first counts");
        assert_eq!((each(&mut first), each(&mut second)), (None, None));
        assert!(window.answer(4, true, Taken));
        assert_eq!(each(&mut first), Some(vec![Taken, NotTaken, Taken]));
        assert_eq!(each(&mut second), Some(vec![Taken, Taken]));
    }

    #[test]
    fn a_later_call_may_be_done_first() {
        let mut window = Window::default();
        let (mut first, mut second) = (enter(&mut window, 1), enter(&mut window, 1));
        assert!(window.answer(2, false, Taken));
        assert_eq!((each(&mut first), each(&mut second)), (None, Some(vec![Taken])));
        assert!(window.answer(0, true, Taken));
        assert_eq!(each(&mut first), Some(vec![Taken]));
    }

    #[test]
    fn tags_that_were_never_given_are_no_answers() {
        let mut window = Window::default();
        let mut call = enter(&mut window, 2);
        assert!(!window.answer(0, false, Taken));
        assert!(!window.answer(3, true, Taken));
        assert_eq!(each(&mut call), None);
    }

    #[test]
    fn what_is_returned_and_the_end_are_told_to_all_who_wait() {
        let mut window = Window::default();
        let (mut first, mut second) = (enter(&mut window, 1), enter(&mut window, 2));
        window.answer(1, false, Taken);
        let returned = Returned {
            message_id: Some("1".into()),
            exchange: "x".into(),
            routing_key: "k".into(),
            reason: "NO_ROUTE".to_owned(),
        };
        window.returned(&returned);
        window.answer(2, false, Taken);
        window.end(&Error::Silent);
        assert_eq!(first.try_recv().unwrap().returned, []);
        let answers = second.try_recv().unwrap();
        assert_eq!((answers.each, answers.returned), (vec![Taken, Open], vec![returned]));
        assert!(answers.end.is_some());
    }
}
