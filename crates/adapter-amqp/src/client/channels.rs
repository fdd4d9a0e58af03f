//! The channels of one connection, and what the broker says on them.
//!
//! Invariants:
//! - A channel's number is given again only when both sides have closed it.
//! - What a call still waits for when its channel ends is told to it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use amq_protocol::protocol::{
    AMQPClass,
    basic::{AMQPMethod as Basic, CancelOk},
    channel::{AMQPMethod, Close, CloseOk, FlowOk, Open},
    confirm::{AMQPMethod as Confirm, Select},
    queue::AMQPMethod as Queue,
};
use bytes::Bytes;
use tokio::sync::oneshot;
use transload_adapter::{Occupied, wire::Output};

use super::{
    arrivals::{Arrival, Arrivals, Delivery},
    content::{Content, Head},
    encode::Frames,
    error::{Error, Result},
    input::{Deliver, Header, OnChannel, method_frame},
    window::{Answer, Answers, Returned, Window},
};

/// A channel, for whoever uses it. It is closed some time after the last of them is gone.
#[derive(Debug)]
pub(crate) struct Channel {
    number: u16,
    ended: AtomicBool,
}

impl Channel {
    /// What its frames are marked with.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether it is of no more use.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Who asked for a channel.
pub(super) type Opened = oneshot::Sender<Result<Arc<Channel>>>;
/// Who asked something on a channel.
pub(super) type Reply = oneshot::Sender<Result<AMQPClass>>;

/// A channel, as the connection sees it.
struct Entry {
    channel: Arc<Channel>,
    /// Until the broker has opened it.
    opening: Option<Opened>,
    /// Until the broker has answered.
    call: Option<Reply>,
    window: Window,
    /// What is coming in.
    content: Option<Content>,
    /// There is a consumer, which wants to know of the end.
    consumes: bool,
    /// The broker has asked to send nothing for now (section 1.5.2.3); what comes meanwhile. A call
    /// waits for its answers before the next, so these are few.
    held: Option<Vec<(Frames, oneshot::Sender<Answers>)>>,
    closing: bool,
}

/// All channels of one connection.
pub(super) struct Channels {
    entries: HashMap<u16, Entry>,
    channel_max: u16,
    last: u16,
    payload_bytes_max: usize,
    pub(super) arrivals: Arrivals,
}

impl Channels {
    pub(super) fn new(channel_max: u16, payload_bytes_max: usize, arrivals: Arrivals) -> Self {
        Self { entries: HashMap::new(), channel_max, last: 0, payload_bytes_max, arrivals }
    }

    /// Asks the broker for a channel with confirmations; closes those that nobody uses any more.
    pub(super) fn open(&mut self, opened: Opened, output: &mut Output) -> Result<()> {
        self.close_unused(output)?;
        let Some(number) = self.free_number() else {
            drop(opened.send(Err(Error::NoChannel)));
            return Ok(());
        };
        output.buffer().extend_from_slice(&method_frame(
            number,
            AMQPClass::Channel(AMQPMethod::Open(Open {})),
        )?);
        let select = Confirm::Select(Select { nowait: false });
        output.buffer().extend_from_slice(&method_frame(number, AMQPClass::Confirm(select))?);
        let channel = Arc::new(Channel { number, ended: AtomicBool::new(false) });
        self.entries.insert(number, Entry::new(channel, opened));
        Ok(())
    }

    fn free_number(&mut self) -> Option<u16> {
        if self.entries.len() >= usize::from(self.channel_max) {
            return None;
        }
        let first = self.last;
        loop {
            self.last = if self.last >= self.channel_max { 1 } else { self.last + 1 };
            if !self.entries.contains_key(&self.last) {
                return Some(self.last);
            }
            if self.last == first {
                return None;
            }
        }
    }

    fn close_unused(&mut self, output: &mut Output) -> Result<()> {
        for entry in self.entries.values_mut() {
            let unused = entry.opening.is_none() && Arc::strong_count(&entry.channel) == 1;
            if unused && !entry.closing {
                entry.close(output)?;
            }
        }
        Ok(())
    }

    fn usable(&mut self, channel: &Arc<Channel>) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(&channel.number)?;
        (Arc::ptr_eq(&entry.channel, channel) && !entry.closing).then_some(entry)
    }

    /// Closes a channel whose answers nobody waits for any longer.
    pub(super) fn give_up(&mut self, channel: &Arc<Channel>, output: &mut Output) -> Result<()> {
        match self.usable(channel) {
            Some(entry) => entry.close(output),
            None => Ok(()),
        }
    }

    /// Asks the broker something, one thing at a time on each channel.
    pub(super) fn call(
        &mut self,
        channel: &Arc<Channel>,
        method: &[u8],
        reply: Reply,
        output: &mut Output,
    ) {
        match self.usable(channel) {
            Some(entry) => {
                entry.call = Some(reply);
                output.buffer().extend_from_slice(method);
            }
            None => drop(reply.send(Err(Error::ChannelClosed))),
        }
    }

    /// Writes what has no answer. It is dropped if the channel has ended.
    pub(super) fn write(&mut self, channel: &Arc<Channel>, frames: &[u8], output: &mut Output) {
        if self.usable(channel).is_some() {
            output.buffer().extend_from_slice(frames);
        }
    }

    /// Writes the messages of a call.
    pub(super) fn publish(
        &mut self,
        channel: &Arc<Channel>,
        frames: Frames,
        done: oneshot::Sender<Answers>,
        output: &mut Output,
    ) {
        let Some(entry) = self.usable(channel) else {
            let mut window = Window::default();
            window.enter(frames.messages(), done);
            window.end(&Error::ChannelClosed);
            return;
        };
        if let Some(held) = &mut entry.held {
            held.push((frames, done));
        } else {
            entry.write(frames, done, output);
        }
    }

    /// Takes what the broker says on a channel.
    ///
    /// # Errors
    ///
    /// If the broker does not keep to the protocol: the connection is of no more use.
    pub(super) fn take(&mut self, number: u16, said: OnChannel, output: &mut Output) -> Result<()> {
        let bytes_max = self.payload_bytes_max;
        match said {
            OnChannel::Confirm { tag, multiple, taken } => {
                let answer = if taken { Answer::Taken } else { Answer::NotTaken };
                let entry = self.entry(number)?;
                if entry.closing || entry.window.answer(tag, multiple, answer) {
                    Ok(())
                } else {
                    Err(Error::protocol("the broker confirms what was never published"))
                }
            }
            OnChannel::Deliver(deliver) => self.entry(number)?.begin(Head::Delivered(deliver)),
            OnChannel::Header(header) => {
                self.entry(number)?.content()?.take_header(header)?;
                self.finish_content(number)
            }
            OnChannel::Body(part) => {
                self.entry(number)?.content()?.take_part(&part, bytes_max)?;
                self.finish_content(number)
            }
            OnChannel::Method(method) => self.take_method(number, method, output),
        }
    }

    fn entry(&mut self, channel: u16) -> Result<&mut Entry> {
        let entry = self.entries.get_mut(&channel);
        entry.ok_or_else(|| Error::protocol("the broker names an unknown channel"))
    }

    fn finish_content(&mut self, number: u16) -> Result<()> {
        let entry = self.entry(number)?;
        let Some(content) = entry.content.take_if(|content| content.is_complete()) else {
            return Ok(());
        };
        match content.into_parts() {
            Some((Head::Returned(method), header, _)) => {
                entry.window.returned(&Returned {
                    message_id: header.properties.message_id,
                    exchange: method.exchange.as_str().into(),
                    routing_key: method.routing_key.as_str().into(),
                    reason: format!("{} {}", method.reply_code, method.reply_text),
                });
            }
            // After the channel was given up nobody could acknowledge it.
            Some((Head::Delivered(head), header, data)) if !entry.closing => {
                let delivery = Box::new(delivery(head, header, data));
                self.arrivals.push(Arrival::Message(number, delivery, Occupied::default()));
            }
            Some((Head::Delivered(_), ..)) | None => {}
        }
        Ok(())
    }

    fn take_method(&mut self, number: u16, method: AMQPClass, output: &mut Output) -> Result<()> {
        match method {
            AMQPClass::Channel(method) => self.take_channel_method(number, method, output),
            AMQPClass::Confirm(Confirm::SelectOk(_)) => {
                self.entry(number)?.opened();
                Ok(())
            }
            AMQPClass::Basic(Basic::Return(method)) => {
                self.entry(number)?.begin(Head::Returned(method))
            }
            AMQPClass::Basic(Basic::Cancel(cancel)) => {
                if !cancel.nowait {
                    let ok = Basic::CancelOk(CancelOk { consumer_tag: cancel.consumer_tag });
                    output.buffer().extend_from_slice(&method_frame(number, AMQPClass::Basic(ok))?);
                }
                self.end_consumer(number, None)
            }
            method @ (AMQPClass::Basic(
                Basic::QosOk(_) | Basic::ConsumeOk(_) | Basic::CancelOk(_),
            )
            | AMQPClass::Queue(Queue::DeclareOk(_) | Queue::BindOk(_))) => {
                self.entry(number)?.reply(method);
                Ok(())
            }
            AMQPClass::Basic(_)
            | AMQPClass::Connection(_)
            | AMQPClass::Access(_)
            | AMQPClass::Exchange(_)
            | AMQPClass::Queue(_)
            | AMQPClass::Tx(_)
            | AMQPClass::Confirm(_) => {
                Err(Error::protocol("the broker sends a method that has no place here"))
            }
        }
    }

    fn take_channel_method(
        &mut self,
        number: u16,
        method: AMQPMethod,
        output: &mut Output,
    ) -> Result<()> {
        match method {
            AMQPMethod::OpenOk(_) => Ok(()),
            AMQPMethod::Close(close) => {
                let ok = AMQPClass::Channel(AMQPMethod::CloseOk(CloseOk {}));
                output.buffer().extend_from_slice(&method_frame(number, ok)?);
                let error = Error::from(close);
                self.entry(number)?.end(&error);
                self.end_consumer(number, Some(error))?;
                // Both sides may close at once: then the answer to ours follows.
                self.entries.retain(|other, entry| *other != number || entry.closing);
                Ok(())
            }
            AMQPMethod::CloseOk(_) => {
                self.entries.remove(&number);
                Ok(())
            }
            AMQPMethod::Flow(flow) => {
                let ok = AMQPMethod::FlowOk(FlowOk { active: flow.active });
                output.buffer().extend_from_slice(&method_frame(number, AMQPClass::Channel(ok))?);
                self.entry(number)?.flow(flow.active, output);
                Ok(())
            }
            AMQPMethod::Open(_) | AMQPMethod::FlowOk(_) => {
                Err(Error::protocol("the broker sends a method that only clients send"))
            }
        }
    }

    fn end_consumer(&mut self, number: u16, error: Option<Error>) -> Result<()> {
        if std::mem::take(&mut self.entry(number)?.consumes) {
            self.arrivals.push(Arrival::End(number, error));
        }
        Ok(())
    }

    /// Tells all who wait that the connection has ended.
    pub(super) fn end(&mut self, error: &Error) {
        for (_, mut entry) in self.entries.drain() {
            entry.end(error);
        }
    }
}

fn delivery(head: Deliver, header: Header, data: Bytes) -> Delivery {
    let Deliver { tag, redelivered, exchange, routing_key } = head;
    let Header { body_bytes, properties, fault } = header;
    Delivery {
        tag,
        redelivered,
        exchange,
        routing_key,
        properties,
        data,
        data_bytes: body_bytes,
        fault,
    }
}

impl Entry {
    fn new(channel: Arc<Channel>, opened: Opened) -> Self {
        Self {
            channel,
            opening: Some(opened),
            call: None,
            window: Window::default(),
            content: None,
            consumes: false,
            held: None,
            closing: false,
        }
    }

    fn opened(&mut self) {
        if let Some(opened) = self.opening.take() {
            // Whoever has given up leaves a channel that nobody uses.
            drop(opened.send(Ok(Arc::clone(&self.channel))));
        }
    }

    fn reply(&mut self, method: AMQPClass) {
        if let AMQPClass::Basic(Basic::ConsumeOk(_)) = method {
            self.consumes = true;
        } else if let AMQPClass::Basic(Basic::CancelOk(_)) = method {
            self.consumes = false;
        }
        if let Some(call) = self.call.take() {
            drop(call.send(Ok(method)));
        }
    }

    fn begin(&mut self, head: Head) -> Result<()> {
        match self.content.replace(Content::new(head)) {
            None => Ok(()),
            Some(_) => Err(Error::protocol("the broker begins a message within another")),
        }
    }

    fn content(&mut self) -> Result<&mut Content> {
        let content = self.content.as_mut();
        content.ok_or_else(|| Error::protocol("the broker sends a content without a message"))
    }

    fn write(&mut self, frames: Frames, done: oneshot::Sender<Answers>, output: &mut Output) {
        self.window.enter(frames.messages(), done);
        output.append(frames.into_output());
    }

    fn close(&mut self, output: &mut Output) -> Result<()> {
        let close = Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
        let close = AMQPClass::Channel(AMQPMethod::Close(close));
        output.buffer().extend_from_slice(&method_frame(self.channel.number, close)?);
        self.closing = true;
        self.end(&Error::ChannelClosed);
        Ok(())
    }

    fn end(&mut self, error: &Error) {
        self.channel.ended.store(true, Ordering::Release);
        if let Some(opened) = self.opening.take() {
            drop(opened.send(Err(error.clone())));
        }
        if let Some(call) = self.call.take() {
            drop(call.send(Err(error.clone())));
        }
        for (frames, done) in self.held.take().unwrap_or_default() {
            self.window.enter(frames.messages(), done);
        }
        self.window.end(error);
    }

    fn flow(&mut self, active: bool, output: &mut Output) {
        if !active {
            self.held.get_or_insert_default();
            return;
        }
        for (frames, done) in self.held.take().unwrap_or_default() {
            self.write(frames, done, output);
        }
    }
}
