use std::{fmt, str::FromStr};

/// One end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Devices or subscribers at the candidate's own MQTT listener.
    Listener,
    /// The same at mosquitto, to which the candidate connects.
    Mosquitto,
    /// A queue of `RabbitMQ`.
    Amqp,
    /// A stream of `JetStream`.
    Jetstream,
    /// Core NATS.
    Core,
    /// Posts to the candidate's own HTTP listener.
    Http,
}

/// A way of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where they come in.
    pub from: End,
    /// Where they go out.
    pub to: End,
}

impl Path {
    /// All that are measured.
    pub const ALL: [Self; 10] = [
        Self { from: End::Listener, to: End::Amqp },
        Self { from: End::Mosquitto, to: End::Amqp },
        Self { from: End::Listener, to: End::Jetstream },
        Self { from: End::Jetstream, to: End::Amqp },
        Self { from: End::Amqp, to: End::Jetstream },
        Self { from: End::Http, to: End::Jetstream },
        Self { from: End::Http, to: End::Amqp },
        Self { from: End::Amqp, to: End::Listener },
        Self { from: End::Listener, to: End::Listener },
        Self { from: End::Core, to: End::Core },
    ];

    /// Whether one of the ends is this one.
    pub fn has(self, end: End) -> bool {
        self.from == end || self.to == end
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Mosquitto => "mosquitto",
            Self::Amqp => "amqp",
            Self::Jetstream => "jetstream",
            Self::Core => "nats",
            Self::Http => "http",
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.from, self.to))
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|path| path.to_string() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(Path::to_string).collect();
            format!("there is no path {text}; paths are {}", known.join(", "))
        })
    }
}
