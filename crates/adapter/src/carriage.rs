//! What a protocol carries of a message beside its address and its payload.
//!
//! Each adapter has one table for each protocol that it speaks. The table in `docs/SEMANTICS.md` is
//! held against them, and so is what comes through the mappings; `transload check` and `transload
//! explain` tell by them what a target cannot carry.

/// A part of a message that not every protocol carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Its id.
    Id,
    /// The media type of the payload.
    ContentType,
    /// The coding of the payload.
    ContentEncoding,
    /// What ties a reply to its request.
    Correlation,
    /// Where a reply is expected.
    ReplyTo,
    /// From when on nobody wants it.
    Expiry,
    /// Whether it is to be kept safe.
    Durable,
    /// Whether it is kept for later subscribers.
    Retain,
    /// Its priority.
    Priority,
    /// What kind of message it is.
    Type,
    /// Which application made it.
    Application,
    /// Which user made it.
    User,
    /// When it was made.
    Timestamp,
    /// How many routes it has passed.
    Hops,
    /// The headers.
    Headers,
}

impl Part {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Id,
        Self::ContentType,
        Self::ContentEncoding,
        Self::Correlation,
        Self::ReplyTo,
        Self::Expiry,
        Self::Durable,
        Self::Retain,
        Self::Priority,
        Self::Type,
        Self::Application,
        Self::User,
        Self::Timestamp,
        Self::Hops,
        Self::Headers,
    ];

    /// Its name in the documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::ContentType => "content type",
            Self::ContentEncoding => "content encoding",
            Self::Correlation => "correlation",
            Self::ReplyTo => "reply to",
            Self::Expiry => "expiry",
            Self::Durable => "durable",
            Self::Retain => "retain",
            Self::Priority => "priority",
            Self::Type => "type",
            Self::Application => "application",
            Self::User => "user",
            Self::Timestamp => "timestamp",
            Self::Hops => "hops",
            Self::Headers => "headers",
        }
    }
}

/// What one protocol carries, under the settings at hand.
#[derive(Debug, PartialEq, Eq)]
pub struct Carriage {
    /// The protocol's name for people, such as «MQTT 5».
    pub protocol: &'static str,
    /// The form of each part that the protocol carries, as the documentation has it.
    pub forms: &'static [(Part, &'static str)],
    /// What of these is not carried under the settings at hand.
    pub without: &'static [Part],
    /// What is carried and is not what it was any more: what becomes of it, to be read behind
    /// «becomes».
    pub altered: &'static [(Part, &'static str)],
    /// What else there is to know of a target, as a sentence without a full stop; empty for nothing.
    pub remark: &'static str,
}

impl Carriage {
    /// Carries everything as it is; that of an adapter of which nothing is known.
    pub const EVERYTHING: Self = Self {
        protocol: "any",
        forms: &[
            (Part::Id, ""),
            (Part::ContentType, ""),
            (Part::ContentEncoding, ""),
            (Part::Correlation, ""),
            (Part::ReplyTo, ""),
            (Part::Expiry, ""),
            (Part::Durable, ""),
            (Part::Retain, ""),
            (Part::Priority, ""),
            (Part::Type, ""),
            (Part::Application, ""),
            (Part::User, ""),
            (Part::Timestamp, ""),
            (Part::Hops, ""),
            (Part::Headers, ""),
        ],
        without: &[],
        altered: &[],
        remark: "",
    };

    /// The form of a part, whatever the settings.
    pub fn form(&self, part: Part) -> Option<&'static str> {
        self.forms.iter().find(|(known, _)| *known == part).map(|(_, form)| *form)
    }

    /// Whether a part is carried.
    pub fn carries(&self, part: Part) -> bool {
        self.form(part).is_some() && !self.without.contains(&part)
    }
}

impl Default for &Carriage {
    fn default() -> Self {
        &Carriage::EVERYTHING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOR: Carriage = Carriage { without: &[Part::Id], ..Carriage::EVERYTHING };

    #[test]
    fn everything_is_everything() {
        assert!(Part::ALL.iter().all(|part| Carriage::EVERYTHING.carries(*part)));
        assert!(!POOR.carries(Part::Id) && POOR.form(Part::Id).is_some());
    }
}
