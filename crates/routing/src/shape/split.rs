//! One message into several: `split`.

use transload_envelope::MessageId;

use super::{
    draft::Draft,
    field::Path,
    node::{Node, kind},
};

/// How many messages may come of one, at most.
pub const MESSAGES_MAX: usize = 10_000;

/// Takes the elements of an array apart.
#[derive(Clone, Debug)]
pub struct Split {
    /// Where the array is.
    pub at: Path,
    /// How many elements it may have.
    pub messages_max: usize,
}

impl Split {
    /// How many elements an array may have where the rules file does not say.
    pub const DEFAULT_MAX: usize = 1_000;

    pub(super) fn apply(&self, mut draft: Draft) -> Result<Vec<Draft>, String> {
        let node = draft.json()?.get(&self.at);
        let node = node.ok_or_else(|| format!("there is no `{}`", self.at))?;
        node.open();
        let elements = match node {
            Node::Array(elements) => std::mem::take(elements),
            Node::Object(_) => return Err(format!("`{}` is an object, no array", self.at)),
            Node::Raw(text) => return Err(format!("`{}` is {}, no array", self.at, kind(text))),
        };
        if elements.len() > self.messages_max {
            let (count, max) = (elements.len(), self.messages_max);
            return Err(format!("the array has {count} elements, and at most {max} are allowed"));
        }
        // What is left is not needed, and must not be copied with each message.
        draft.set_bytes(bytes::Bytes::new());
        Ok(numbered(&draft, elements).collect())
    }
}

/// A message for each of these, whose ids are that of the source and a number.
pub(super) fn numbered(draft: &Draft, parts: Vec<Node>) -> impl Iterator<Item = Draft> {
    parts.into_iter().enumerate().map(move |(place, part)| {
        let mut one = draft.clone();
        one.set_json(part, super::codec::JSON);
        one.head_mut().id = part_id(&draft.head().id, place + 1);
        one
    })
}

/// The id of a part: the same whenever the message is split again.
pub(super) fn part_id(id: &MessageId, number: usize) -> MessageId {
    MessageId::from_source(format!("{id}-{number}"))
}
