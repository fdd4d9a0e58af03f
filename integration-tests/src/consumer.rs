use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use serde_json::Value;

use crate::{
    End, Process, Received,
    wait::{PATIENCE, until, until_within},
};

type Parse = fn(&mut String) -> Vec<Received>;

/// A client that receives, and prints what it receives.
#[derive(Debug)]
pub struct Consumer {
    process: Process,
    parse: Parse,
    read_to: u64,
    rest: Vec<u8>,
    received: Vec<Received>,
    taken: usize,
    ready: Option<Value>,
}

impl Consumer {
    /// A client that prints JSON lines.
    pub(crate) fn of_json(process: Process) -> Self {
        Self::new(process, json_lines)
    }

    /// A client whose output `parse` takes apart; it leaves what is not complete yet.
    pub(crate) fn new(process: Process, parse: Parse) -> Self {
        let (rest, received) = (Vec::new(), Vec::new());
        Self { process, parse, read_to: 0, rest, received, taken: 0, ready: None }
    }

    pub(crate) async fn until_ready(&mut self) {
        let ready = until("a consumer to be subscribed", || {
            let ready = self.process.output().lines().find_map(|line| {
                let value: Value = serde_json::from_str(line).ok()?;
                value.get("ready").is_some().then_some(value)
            });
            if ready.is_none() {
                self.process.must_run();
            }
            async move { ready }
        });
        self.ready = Some(ready.await);
    }

    /// What the client said about its subscription.
    pub fn subscription(&self) -> &Value {
        self.ready.as_ref().unwrap_or(&Value::Null)
    }

    fn read(&mut self) {
        let Ok(mut file) = File::open(self.process.output_path()) else { return };
        if file.seek(SeekFrom::Start(self.read_to)).is_err() {
            return;
        }
        let count = file.read_to_end(&mut self.rest).unwrap_or(0);
        self.read_to += count as u64;
        // A character may be cut in two by the end of what there is so far.
        let valid = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let cut = self.rest.split_off(valid);
        let mut text = String::from_utf8(std::mem::take(&mut self.rest)).unwrap_or_default();
        self.received.extend((self.parse)(&mut text));
        self.rest = text.into_bytes();
        self.rest.extend(cut);
    }

    /// Everything received so far, also what was taken.
    pub fn all(&mut self) -> &[Received] {
        self.read();
        &self.received
    }

    /// Waits for the next messages.
    pub async fn take(&mut self, count: usize) -> Vec<Received> {
        self.take_within(PATIENCE, count).await
    }

    /// The same with a time of its own.
    pub async fn take_within(
        &mut self,
        patience: std::time::Duration,
        count: usize,
    ) -> Vec<Received> {
        let end = self.taken + count;
        let what = format!("{count} messages after {}", self.taken);
        until_within(patience, what, || {
            let reached = self.all().len() >= end;
            if !reached {
                self.process.must_run();
            }
            async move { reached.then_some(()) }
        })
        .await;
        let taken = self.received.get(self.taken..end).unwrap_or_default().to_vec();
        self.taken = end;
        taken
    }

    /// Waits until a message was received for which this holds, and returns the first.
    pub async fn until_received(
        &mut self,
        what: &str,
        holds: impl Fn(&Received) -> bool,
    ) -> Received {
        until(what, || {
            let found = self.all().iter().find(|message| holds(message)).cloned();
            if found.is_none() {
                self.process.must_run();
            }
            async move { found }
        })
        .await
    }

    /// Watches for a while that no more than so many messages have come in all.
    pub async fn stays_at(&mut self, count: usize) {
        crate::wait::stays(format!("{count} messages were received"), || self.all().len() == count)
            .await;
    }

    /// The client's process, to freeze it or to look at its output.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Ends the client without a word to the server, as a lost device, and returns all that it has
    /// received.
    pub fn vanish(mut self) -> Vec<Received> {
        self.process.kill();
        self.read();
        std::mem::take(&mut self.received)
    }

    /// Ends the client as it likes to end.
    pub async fn stop(mut self) -> Vec<Received> {
        self.process.signal(End::Terminate);
        self.process.wait(PATIENCE).await;
        self.read();
        std::mem::take(&mut self.received)
    }
}

fn json_lines(text: &mut String) -> Vec<Received> {
    let Some(end) = text.rfind('\n') else { return Vec::new() };
    let complete: String = text.drain(..=end).collect();
    complete.lines().filter_map(Received::parse).collect()
}
