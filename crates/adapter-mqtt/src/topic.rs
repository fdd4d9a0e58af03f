//! Topic names and topic filters (MQTT 5, section 4.7 and 4.8.2; the same in 3.1.1).

use transload_adapter::SendError;
use transload_envelope::{Outgoing, Text};
use transload_routing::Pattern;

/// Whether a message can be published under this name: at least one character, no wildcard.
pub(crate) fn is_valid_name(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= 65_535 && !topic.contains(['+', '#', '\0'])
}

/// Whether the name is one of the server's own, where clients may not publish (section 4.7.2).
pub(crate) fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

/// The topic of a message: what the rule made, the target's own, or its address. Topics that begin
/// with `$` are somebody's own.
pub(crate) fn of(outgoing: &Outgoing, fixed: Option<&str>, whose: &str) -> Result<Text, SendError> {
    let Outgoing { envelope, arguments } = outgoing;
    let topic = arguments.get("topic").cloned().or_else(|| fixed.map(Text::from));
    let topic = topic.unwrap_or_else(|| envelope.address.as_text().clone());
    let rejected = |reason: String| Err(SendError::Rejected { reason: reason.into() });
    if !is_valid_name(&topic) {
        // So much as a message for people should repeat.
        let start: String = topic.chars().take(64).collect();
        return rejected(format!("{start:?} is no topic to publish under"));
    }
    if is_reserved(&topic) {
        return rejected(format!("topics that start with `$` are {whose}"));
    }
    Ok(topic)
}

/// A topic filter of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The group of a shared subscription.
    pub(crate) group: Option<Text>,
    /// What it matches.
    pub(crate) pattern: Pattern,
}

impl Filter {
    /// Reads a filter, `$share/GROUP/FILTER` included; `None` when it is not valid.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (group, filter) = match text.strip_prefix("$share/") {
            None if text == "$share" => return None,
            None => (None, text),
            Some(shared) => {
                let (group, filter) = shared.split_once('/')?;
                if group.is_empty() || group.contains(['+', '#']) {
                    return None;
                }
                (Some(group.into()), filter)
            }
        };
        let pattern = Pattern::parse_filter(filter).ok()?;
        Some(Self { group, pattern })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (topic, valid) in [
            ("a", true),
            ("/", true),
            ("a//b", true),
            ("ä {x} 😀", true),
            ("", false),
            ("a/+", false),
            ("a/#", false),
            ("a#", false),
        ] {
            assert_eq!(is_valid_name(topic), valid, "{topic:?}");
        }
    }

    #[test]
    fn filters() {
        for (filter, valid) in [
            ("#", true),
            ("+", true),
            ("a/+/b", true),
            ("/", true),
            ("{a}/#", true),
            ("$SYS/#", true),
            ("$share/g/a/#", true),
            ("$share/g//", true),
            ("", false),
            ("a/#/b", false),
            ("a#", false),
            ("a+/b", false),
            ("$share", false),
            ("$share/g", false),
            ("$share//a", false),
            ("$share/g/", false),
            ("$share/+/a", false),
        ] {
            assert_eq!(Filter::parse(filter).is_some(), valid, "{filter:?}");
        }
    }
}
