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

use amq_protocol::frame::AMQPContentHeader;
use lapin::{
    ChannelState, ErrorKind,
    protocol::{
        AMQPClass, AMQPError, AMQPSoftError,
        basic::{AMQPMethod as Basic, Return},
        channel::{AMQPMethod, Close, CloseOk, FlowOk, Open},
        confirm::{AMQPMethod as Confirm, Select},
    },
};
use tokio::sync::oneshot;

use super::{
    encode::Frames,
    input::{OnChannel, fault, method_frame},
    io::Output,
    window::{Answer, Answers, Returned, Window},
};

/// A channel, for whoever publishes on it. It is closed some time after the last of them is gone.
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

    /// Whether nothing more can be published on it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }
}

/// Who asked for a channel.
pub(super) type Opened = oneshot::Sender<lapin::Result<Arc<Channel>>>;

/// A channel, as the connection sees it.
struct Entry {
    channel: Arc<Channel>,
    /// Until the broker has opened it.
    opening: Option<Opened>,
    window: Window,
    /// What is being returned.
    returning: Option<Returning>,
    /// The broker has asked to send nothing for now (section 1.5.2.3); what comes meanwhile. A call
    /// waits for its answers before the next, so these are few.
    held: Option<Vec<(Frames, oneshot::Sender<Answers>)>>,
    closing: bool,
}

/// A message that is being returned: the method is there, the content is on its way.
struct Returning {
    method: Return,
    header: Option<Box<AMQPContentHeader>>,
    bytes_left: u64,
}

/// All channels of one connection.
pub(super) struct Channels {
    entries: HashMap<u16, Entry>,
    channel_max: u16,
    last: u16,
}

impl Channels {
    pub(super) fn new(channel_max: u16) -> Self {
        Self { entries: HashMap::new(), channel_max, last: 0 }
    }

    /// Asks the broker for a channel with confirmations; closes those that nobody uses any more.
    pub(super) fn open(&mut self, opened: Opened, output: &mut Output) -> lapin::Result<()> {
        self.close_unused(output)?;
        let Some(number) = self.free_number() else {
            drop(opened.send(Err(ErrorKind::ChannelsLimitReached.into())));
            return Ok(());
        };
        output.push(method_frame(number, AMQPClass::Channel(AMQPMethod::Open(Open {})))?);
        let select = Confirm::Select(Select { nowait: false });
        output.push(method_frame(number, AMQPClass::Confirm(select))?);
        self.entries.insert(
            number,
            Entry {
                channel: Arc::new(Channel { number, ended: AtomicBool::new(false) }),
                opening: Some(opened),
                window: Window::default(),
                returning: None,
                held: None,
                closing: false,
            },
        );
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

    fn close_unused(&mut self, output: &mut Output) -> lapin::Result<()> {
        for entry in self.entries.values_mut() {
            let unused = entry.opening.is_none() && Arc::strong_count(&entry.channel) == 1;
            if unused && !entry.closing {
                entry.close(output)?;
            }
        }
        Ok(())
    }

    /// Closes a channel whose answers nobody waits for any longer.
    pub(super) fn give_up(
        &mut self,
        channel: &Arc<Channel>,
        output: &mut Output,
    ) -> lapin::Result<()> {
        match self.entries.get_mut(&channel.number) {
            Some(entry) if Arc::ptr_eq(&entry.channel, channel) && !entry.closing => {
                entry.close(output)
            }
            Some(_) | None => Ok(()),
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
        let entry = self.entries.get_mut(&channel.number);
        let Some(entry) =
            entry.filter(|entry| Arc::ptr_eq(&entry.channel, channel) && !entry.closing)
        else {
            let mut window = Window::default();
            window.enter(frames.messages(), done);
            window.end(&ended());
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
    pub(super) fn take(
        &mut self,
        number: u16,
        said: OnChannel,
        output: &mut Output,
    ) -> lapin::Result<()> {
        match said {
            OnChannel::Confirm { tag, multiple, taken } => {
                let answer = if taken { Answer::Taken } else { Answer::NotTaken };
                let entry = self.entry(number)?;
                if entry.closing || entry.window.answer(tag, multiple, answer) {
                    Ok(())
                } else {
                    Err(fault("the broker confirms what was never published"))
                }
            }
            OnChannel::Method(AMQPClass::Channel(method)) => {
                self.take_method(number, method, output)
            }
            OnChannel::Method(AMQPClass::Confirm(Confirm::SelectOk(_))) => self.opened(number),
            OnChannel::Method(AMQPClass::Basic(Basic::Return(method))) => {
                self.entry(number)?.returning =
                    Some(Returning { method, header: None, bytes_left: 0 });
                Ok(())
            }
            OnChannel::Header(header) => self.entry(number)?.take_header(header),
            OnChannel::Body(bytes) => self.entry(number)?.take_body(bytes),
            OnChannel::Method(_) => Err(fault("the broker sends a method that has no place here")),
        }
    }

    fn entry(&mut self, channel: u16) -> lapin::Result<&mut Entry> {
        self.entries.get_mut(&channel).ok_or_else(|| fault("the broker names an unknown channel"))
    }

    fn opened(&mut self, number: u16) -> lapin::Result<()> {
        let entry = self.entry(number)?;
        if let Some(opened) = entry.opening.take() {
            // Whoever has given up leaves a channel that nobody uses.
            drop(opened.send(Ok(Arc::clone(&entry.channel))));
        }
        Ok(())
    }

    fn take_method(
        &mut self,
        number: u16,
        method: AMQPMethod,
        output: &mut Output,
    ) -> lapin::Result<()> {
        match method {
            AMQPMethod::OpenOk(_) => Ok(()),
            AMQPMethod::Close(close) => {
                let ok = AMQPClass::Channel(AMQPMethod::CloseOk(CloseOk {}));
                output.push(method_frame(number, ok)?);
                let error = closed(close);
                // Both sides may close at once: then the answer to ours follows.
                let entry = self.entry(number)?;
                entry.end(&error);
                if !entry.closing {
                    self.entries.remove(&number);
                }
                Ok(())
            }
            AMQPMethod::CloseOk(_) => {
                self.entries.remove(&number);
                Ok(())
            }
            AMQPMethod::Flow(flow) => {
                let ok = AMQPMethod::FlowOk(FlowOk { active: flow.active });
                output.push(method_frame(number, AMQPClass::Channel(ok))?);
                self.entry(number)?.flow(flow.active, output);
                Ok(())
            }
            AMQPMethod::Open(_) | AMQPMethod::FlowOk(_) => {
                Err(fault("the broker sends a method that only clients send"))
            }
        }
    }

    /// Tells all who wait that the connection has ended.
    pub(super) fn end(&mut self, error: &lapin::Error) {
        for (_, mut entry) in self.entries.drain() {
            entry.end(error);
        }
    }
}

impl Entry {
    fn write(&mut self, frames: Frames, done: oneshot::Sender<Answers>, output: &mut Output) {
        self.window.enter(frames.messages(), done);
        frames.write_to(output);
    }

    fn close(&mut self, output: &mut Output) -> lapin::Result<()> {
        let close = Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
        let close = AMQPClass::Channel(AMQPMethod::Close(close));
        output.push(method_frame(self.channel.number, close)?);
        self.closing = true;
        self.end(&ended());
        Ok(())
    }

    fn end(&mut self, error: &lapin::Error) {
        self.channel.ended.store(true, Ordering::Release);
        if let Some(opened) = self.opening.take() {
            drop(opened.send(Err(error.clone())));
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

    fn take_header(&mut self, header: Box<AMQPContentHeader>) -> lapin::Result<()> {
        let Some(returning) = self.returning.as_mut().filter(|one| one.header.is_none()) else {
            return Err(fault("the broker sends a content header without a message"));
        };
        returning.bytes_left = header.body_size;
        returning.header = Some(header);
        self.finish_return();
        Ok(())
    }

    fn take_body(&mut self, bytes: usize) -> lapin::Result<()> {
        let Some(returning) = self.returning.as_mut().filter(|one| one.header.is_some()) else {
            return Err(fault("the broker sends a content without its header"));
        };
        returning.bytes_left = returning.bytes_left.saturating_sub(bytes as u64);
        self.finish_return();
        Ok(())
    }

    fn finish_return(&mut self) {
        if let Some(Returning { method, header: Some(header), .. }) =
            self.returning.take_if(|one| one.bytes_left == 0)
        {
            self.window.returned(&Returned {
                message_id: header.properties.message_id().clone(),
                exchange: method.exchange,
                routing_key: method.routing_key,
                reason: format!("{} {}", method.reply_code, method.reply_text),
            });
        }
    }
}

fn ended() -> lapin::Error {
    ErrorKind::InvalidChannelState(ChannelState::Closed, "the channel was closed").into()
}

fn closed(close: Close) -> lapin::Error {
    let text = close.reply_text.clone();
    let error = AMQPError::try_from(close)
        .unwrap_or_else(|_| AMQPError::new(AMQPSoftError::PRECONDITIONFAILED.into(), text));
    ErrorKind::ProtocolError(error).into()
}
