use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::units::{ByteSize, HumanDuration};
use transload_routing::Template;

use super::Sample;

/// The limits of a route; none where nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteLimits {
    /// How large a payload may be.
    pub payload: Option<PayloadLimit>,
    /// Which part of the messages is taken.
    pub sample: Option<Sample>,
    /// How many messages pass in which time.
    pub rate: Option<RateLimit>,
    /// How often the latest message passes.
    pub throttle: Option<ThrottleLimit>,
}

/// How large a payload may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayloadLimit {
    /// The most bytes.
    pub bytes_max: u64,
    /// What becomes of a larger one.
    pub over: OverPayload,
}

/// What becomes of a message whose payload is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverPayload {
    /// It goes to the dead letters of the route.
    DeadLetter,
    /// It is refused, for all routes.
    Reject,
    /// It is acknowledged and goes nowhere by this route.
    Drop,
}

/// How many messages pass in which time.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// How many, at least 1.
    pub messages: u32,
    /// In which time; not zero.
    pub per: Duration,
    /// How many may come at once after a quiet time, at least 1.
    pub burst: u32,
    /// What has a rate of its own; without it, the route has one.
    pub by: Option<Template>,
    /// How many keys have a rate of their own.
    pub keys_max: usize,
    /// What becomes of a message that is too much.
    pub over: OverRate,
}

/// What becomes of a message that comes too soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OverRate {
    /// Its source waits, or is told to come again.
    Wait,
    /// It is refused, for all routes.
    Reject,
    /// It is acknowledged and goes nowhere by this route.
    Drop,
}

/// How often the latest message passes.
#[derive(Clone, Debug, PartialEq)]
pub struct ThrottleLimit {
    /// The least time between two messages; not zero.
    pub interval: Duration,
    /// What is throttled by itself; without it, all that the route takes.
    pub by: Option<Template>,
    /// How many keys are throttled at once.
    pub keys_max: usize,
    /// How many bytes may be held back.
    pub bytes_max: usize,
    /// Whether what is held back is on disk.
    pub durable: bool,
}

impl OverPayload {
    /// As the file says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead-letter",
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

impl OverRate {
    /// As the file says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for RouteLimits {
    /// For people; empty where there is no limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let by = |by: &Option<Template>| {
            by.as_ref().map_or_else(String::new, |by| format!(" by {}", by.as_str()))
        };
        if let Some(payload) = &self.payload {
            let size = ByteSize::from_bytes(payload.bytes_max);
            parts.push(format!("payloads up to {size}, else {}", payload.over.as_str()));
        }
        if let Some(sample) = &self.sample {
            parts.push(format!("a sample of {sample}"));
        }
        if let Some(rate) = &self.rate {
            let per = HumanDuration::from(rate.per);
            let (messages, by) = (rate.messages, by(&rate.by));
            parts.push(format!("{messages} per {per}{by}, else {}", rate.over.as_str()));
        }
        if let Some(throttle) = &self.throttle {
            let interval = HumanDuration::from(throttle.interval);
            parts.push(format!("the latest every {interval}{}", by(&throttle.by)));
        }
        f.write_str(&parts.join("; "))
    }
}
