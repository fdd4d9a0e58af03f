//! Streams and their histories.
//!
//! Invariants:
//! - Subscribers have no queues: each has a place in the history of its stream, which all of them
//!   share. A subscriber that is slower than the history is told how many messages it missed.
//! - A stream exists while it has history or subscribers, so that their bounds also bound the
//!   number of streams.
//! - All histories together stay within their bytes, and each within its messages; only the newest
//!   message is kept whatever its size, so that it reaches those who wait for it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::watch;
use transload_adapter::{Event, Observer};
use transload_envelope::Text;

use crate::{listener::config::StreamSettings, mapping};

/// What an event costs beside its bytes.
const EVENT_OVERHEAD: usize = 256;
/// What a subscriber takes from the history at once.
const TAKEN_MAX: usize = 64;
const TAKEN_BYTES_MAX: usize = 256 * 1024;

/// The streams of one listener.
#[derive(Debug)]
pub(in crate::listener) struct Hub {
    pub(super) settings: StreamSettings,
    observer: Arc<dyn Observer>,
    streams: Mutex<Streams>,
    /// How many subscribers there are.
    subscribers: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Streams {
    by_name: HashMap<Text, Stream>,
    /// The streams of all kept events, from the oldest event to the newest.
    order: BTreeMap<u64, Text>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Stream {
    /// The place of the oldest event that is kept; places are counted from the stream's beginning.
    first: u64,
    events: VecDeque<Kept>,
    subscribers: usize,
    /// The place after the newest event.
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct Kept {
    /// Its key in the order of all events.
    key: u64,
    id: Text,
    event: Bytes,
}

impl Default for Stream {
    fn default() -> Self {
        let end = watch::Sender::new(0);
        Self { first: 0, events: VecDeque::new(), subscribers: 0, end }
    }
}

impl Stream {
    fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }
}

impl Streams {
    /// Removes the oldest event of a stream.
    fn evict(&mut self, name: &Text) {
        let Some(stream) = self.by_name.get_mut(name) else { return };
        if let Some(kept) = stream.events.pop_front() {
            stream.first += 1;
            self.order.remove(&kept.key);
            self.bytes -= cost(&kept);
        }
        self.forget_if_unused(name);
    }

    fn forget_if_unused(&mut self, name: &Text) {
        let unused = |stream: &Stream| stream.subscribers == 0 && stream.events.is_empty();
        if self.by_name.get(name).is_some_and(unused) {
            self.by_name.remove(name);
        }
    }
}

fn cost(kept: &Kept) -> usize {
    kept.event.len() + kept.id.len() + EVENT_OVERHEAD
}

impl Hub {
    pub(in crate::listener) fn new(settings: StreamSettings, observer: Arc<dyn Observer>) -> Self {
        let subscribers = watch::Sender::new(0);
        Self { settings, observer, streams: Mutex::default(), subscribers }
    }

    /// Adds an event to a stream and returns how many subscribers the stream has.
    pub(super) fn publish(&self, name: &Text, id: Text, event: Bytes) -> usize {
        let mut streams = self.lock();
        let key = streams.next;
        streams.next += 1;
        let kept = Kept { key, id, event };
        streams.bytes += cost(&kept);
        streams.order.insert(key, name.clone());
        let stream = streams.by_name.entry(name.clone()).or_default();
        stream.events.push_back(kept);
        stream.end.send_replace(stream.end());
        let (subscribers, kept) = (stream.subscribers, stream.events.len());
        if kept > self.settings.history_messages {
            streams.evict(name);
        }
        while streams.bytes > self.settings.history_bytes.as_usize() && streams.order.len() > 1 {
            let Some((_, oldest)) = streams.order.first_key_value() else { break };
            let oldest = oldest.clone();
            streams.evict(&oldest);
        }
        subscribers
    }

    /// Adds a subscriber, behind the event of this id or at the end of the stream; none when there
    /// are too many.
    pub(super) fn subscribe(self: &Arc<Self>, name: &Text, after: Option<&str>) -> Option<Place> {
        let mut streams = self.lock();
        if *self.subscribers.borrow() >= self.settings.max_subscribers {
            return None;
        }
        self.subscribers.send_modify(|subscribers| *subscribers += 1);
        let stream = streams.by_name.entry(name.clone()).or_default();
        stream.subscribers += 1;
        // The newest of this id, since a message may be published again.
        let found = after.map(|id| stream.events.iter().rposition(|kept| *kept.id == *id));
        let (next, unknown) = match found {
            Some(Some(index)) => (stream.first + index as u64 + 1, false),
            // What was missed cannot be told, so all that is left is given.
            Some(None) => (stream.first, true),
            None => (stream.end(), false),
        };
        let end = stream.end.subscribe();
        Some(Place { hub: Arc::clone(self), name: name.clone(), next, unknown, end })
    }

    /// Resolves when nobody reads any stream.
    pub(super) async fn unsubscribed(&self) {
        let mut subscribers = self.subscribers.subscribe();
        // The sender lives as long as the hub.
        drop(subscribers.wait_for(|subscribers| *subscribers == 0).await);
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscriber's place in the history of its stream.
#[derive(Debug)]
pub(super) struct Place {
    hub: Arc<Hub>,
    name: Text,
    next: u64,
    /// The event to resume behind is not known.
    unknown: bool,
    end: watch::Receiver<u64>,
}

impl Place {
    /// Takes what is there, up to a bound, with a notice of what was missed before it.
    pub(super) fn take(&mut self, into: &mut VecDeque<Bytes>) {
        self.end.borrow_and_update();
        if std::mem::take(&mut self.unknown) {
            into.push_back(mapping::gap(None));
        }
        let streams = self.hub.lock();
        let Some(stream) = streams.by_name.get(&self.name) else { return };
        if let Some(missed) = stream.first.checked_sub(self.next).filter(|missed| *missed > 0) {
            self.hub.observer.count(Event::MessageDropped, missed);
            into.push_back(mapping::gap(Some(missed)));
            self.next = stream.first;
        }
        let skipped = usize::try_from(self.next - stream.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for kept in stream.events.iter().skip(skipped).take(TAKEN_MAX) {
            if bytes > TAKEN_BYTES_MAX {
                break;
            }
            bytes += kept.event.len();
            into.push_back(kept.event.clone());
            self.next += 1;
        }
    }

    /// Waits until something was published since the last take. Cancel-safe.
    pub(super) async fn published(&mut self) {
        // The sender lives as long as the stream, and the stream as long as this place.
        drop(self.end.changed().await);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.hub.lock();
        if let Some(stream) = streams.by_name.get_mut(&self.name) {
            stream.subscribers -= 1;
        }
        streams.forget_if_unused(&self.name);
        drop(streams);
        self.hub.subscribers.send_modify(|subscribers| *subscribers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use transload_adapter::{NoObserver, units::ByteSize};

    use super::*;

    fn hub(history_messages: usize, history_bytes: u64) -> Arc<Hub> {
        let settings = StreamSettings {
            history_messages,
            history_bytes: ByteSize::from_bytes(history_bytes),
            max_subscribers: 2,
            ..StreamSettings::default()
        };
        Arc::new(Hub::new(settings, Arc::new(NoObserver)))
    }

    fn publish(hub: &Hub, name: &'static str, id: &'static str) -> usize {
        hub.publish(&Text::from_static(name), id.into(), id.into())
    }

    fn taken(place: &mut Place) -> Vec<String> {
        let mut into = VecDeque::new();
        place.take(&mut into);
        let text = |event: Bytes| String::from_utf8(event.to_vec()).unwrap();
        into.into_iter().map(text).map(|event| event.replace('\n', "|")).collect()
    }

    const GAP_2: &str = "event: transload.gap|data: {\"missed\":2}||";
    const GAP_UNKNOWN: &str = "event: transload.gap|data: {\"missed\":null}||";

    #[test]
    fn subscribers_get_what_comes_and_resume_where_they_were() {
        let hub = hub(3, 1 << 20);
        let name = Text::from_static("s");
        let mut live = hub.subscribe(&name, None).unwrap();
        for id in ["1", "2", "3"] {
            assert_eq!(publish(&hub, "s", id), 1);
        }
        assert_eq!(publish(&hub, "other", "x"), 0);
        assert_eq!(taken(&mut live), ["1", "2", "3"]);
        assert_eq!(taken(&mut live), Vec::<String>::new());
        let mut resumed = hub.subscribe(&name, Some("1")).unwrap();
        assert!(hub.subscribe(&name, None).is_none(), "the bound of subscribers");
        assert_eq!(taken(&mut resumed), ["2", "3"]);
        drop(resumed);
        let mut unknown = hub.subscribe(&name, Some("0")).unwrap();
        assert_eq!(taken(&mut unknown), [GAP_UNKNOWN, "1", "2", "3"]);
        drop(unknown);
        // Five more than the slow one has read, of which three are left.
        for id in ["4", "5", "6", "7", "8"] {
            publish(&hub, "s", id);
        }
        assert_eq!(taken(&mut live), [GAP_2, "6", "7", "8"]);
    }

    #[test]
    fn the_bytes_of_all_streams_are_bounded_and_the_oldest_goes_first() {
        let hub = hub(100, 3 * (EVENT_OVERHEAD as u64 + 2));
        for (name, id) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("a", "5")] {
            publish(&hub, name, id);
        }
        let streams = hub.lock();
        assert_eq!(streams.order.len(), 3);
        assert_eq!(streams.by_name.len(), 1, "a stream without history and readers is gone");
        drop(streams);
        let large = Bytes::from(vec![b'x'; 10_000]);
        hub.publish(&Text::from_static("c"), "6".into(), large);
        assert_eq!(hub.lock().order.len(), 1, "the newest is kept whatever its size");
    }

    #[test]
    fn a_stream_lives_while_somebody_reads_it() {
        let hub = hub(1, 1 << 20);
        let mut place = hub.subscribe(&Text::from_static("s"), None).unwrap();
        publish(&hub, "s", "1");
        assert_eq!(taken(&mut place), ["1"]);
        drop(place);
        assert_eq!(hub.lock().by_name.len(), 1);
        drop(hub.subscribe(&Text::from_static("nobody"), None));
        assert_eq!(hub.lock().by_name.len(), 1);
        assert_eq!(*hub.subscribers.borrow(), 0);
    }

    proptest! {
        #[test]
        fn the_accounts_are_right(
            steps in proptest::collection::vec((0..4_usize, 0..3_usize, 0..600_usize), 1..200),
        ) {
            let hub = hub(5, 4_000);
            let names = ["a", "b", "c"].map(Text::from_static);
            let mut places = VecDeque::new();
            for (what, stream, size) in steps {
                match what {
                    0 | 1 => {
                        let event = Bytes::from(vec![b'x'; size]);
                        hub.publish(&names[stream], "id".into(), event);
                    }
                    2 => places.extend(hub.subscribe(&names[stream], None)),
                    _ => drop(places.pop_front()),
                }
                let streams = hub.lock();
                let kept = || streams.by_name.values().flat_map(|stream| &stream.events);
                prop_assert_eq!(streams.bytes, kept().map(cost).sum::<usize>());
                prop_assert_eq!(streams.order.len(), kept().count());
                prop_assert!(streams.bytes <= 4_000);
                let readers: usize = streams.by_name.values().map(|s| s.subscribers).sum();
                prop_assert_eq!(readers, places.len());
                for stream in streams.by_name.values() {
                    prop_assert!(stream.events.len() <= 5);
                    prop_assert!(stream.subscribers > 0 || !stream.events.is_empty());
                    prop_assert_eq!(*stream.end.borrow(), stream.end());
                }
            }
        }
    }
}
