use std::{ops::Range, sync::Arc};

use transload_envelope::Text;

use super::{
    Embedded, MessageField, Name, Parsed, Part, Property, Reference, TEMPLATE_BYTES_MAX, Template,
};
use crate::{Expression, TemplateError, expression::parse::embedded};

pub(super) fn template(text: &str) -> Result<Template, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::new(
            0..text.len(),
            format!(
                "a template has at most {TEMPLATE_BYTES_MAX} bytes, and this has {}",
                text.len()
            ),
        ));
    }
    let mut parts = Vec::with_capacity(1);
    let mut literal = String::new();
    let mut at = 0;
    while let Some(left) = text.get(at..).filter(|left| !left.is_empty()) {
        let plain = left.find(['{', '}']).unwrap_or(left.len());
        if plain > 0 {
            literal.push_str(left.get(..plain).unwrap_or_default());
            at += plain;
        } else if left.starts_with("{{") || left.starts_with("}}") {
            literal.push_str(left.get(..1).unwrap_or_default());
            at += 2;
        } else {
            let (part, length) = braces(left, at)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(Text::from(&*literal)));
                literal.clear();
            }
            parts.push(part);
            at += length;
        }
    }
    if !literal.is_empty() {
        parts.push(Part::Literal(Text::from(&*literal)));
    }
    Ok(Template(Arc::new(Parsed { source: text.into(), parts: parts.into_boxed_slice() })))
}

/// Reads the reference or expression that `left` begins with, and how long it is; `start` is its
/// place.
fn braces(left: &str, start: usize) -> Result<(Part, usize), TemplateError> {
    let Some(inside) = left.strip_prefix('{') else {
        return Err(TemplateError::new(start..start + 1, "this `}` closes nothing")
            .help("write `}}` for the character itself"));
    };
    if !is_reference(inside) {
        return expression(inside, start + 1);
    }
    let Some((inside, end)) = inside
        .split_once('}')
        .filter(|(inside, _)| !inside.contains('{'))
        .map(|(inside, _)| (inside, inside.len()))
    else {
        return Err(TemplateError::new(start..start + 1, "this `{` is not closed")
            .help("write `{name}` for a value, and `{{` for the character itself"));
    };
    let (written, default) = match inside.split_once('|') {
        Some((written, default)) => (written, Some(default.into())),
        None => (inside, None),
    };
    if written.is_empty() {
        return Err(TemplateError::new(start..start + end + 2, "there is no name in the braces")
            .help("write `{name}` for a value, and `{{}}` for the characters themselves"));
    }
    let range = start + 1..start + 1 + written.len();
    let name = name(written, &range)?;
    Ok((Part::Reference(Reference { name, default, range }), end + 2))
}

/// Whether what follows an opening brace is a name, and no expression.
fn is_reference(inside: &str) -> bool {
    const KINDS: [&str; 4] = ["header.", "property.", "attribute.", "message."];
    let name = inside.split(['}', '|', '{']).next().unwrap_or_default();
    let plain = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-');
    KINDS.iter().any(|kind| inside.starts_with(kind))
        || name.trim_end_matches("...").chars().all(plain)
}

/// Reads the expression at the start of `inside`, which stands at `start`, and says how long it is
/// with its braces.
fn expression(inside: &str, start: usize) -> Result<(Part, usize), TemplateError> {
    let Some(found) = embedded(inside) else {
        return Err(TemplateError::new(start - 1..start, "this `{` is not closed").help(
            "write `{name}` or `{expression}` for a value, and `{{` for the character itself",
        ));
    };
    let text = inside.get(found.expression.clone()).unwrap_or_default();
    let range = start + found.expression.start..start + found.expression.end;
    let expression = Expression::compile(text).map_err(|error| TemplateError {
        range: range.start + error.range.start..range.start + error.range.end,
        ..error
    })?;
    let default = found.default.and_then(|default| inside.get(default)).map(Into::into);
    let embedded = Embedded { expression, default, range };
    Ok((Part::Expression(Box::new(embedded)), found.end + 1))
}

fn name(written: &str, range: &Range<usize>) -> Result<Name, TemplateError> {
    if let Some(plain) = written.strip_suffix("...").filter(|plain| !plain.contains('.')) {
        return Err(TemplateError::new(
            range.clone(),
            "the dots belong to the pattern and not to the template",
        )
        .help(format!("write `{{{plain}}}`")));
    }
    let Some((kind, name)) = written.split_once('.') else {
        return capture(written, range);
    };
    if name.is_empty() {
        return Err(TemplateError::new(range.clone(), format!("`{written}` lacks a name")));
    }
    let behind = range.start + kind.len() + 1..range.end;
    match kind {
        "header" => Ok(Name::Header(name.into())),
        "attribute" => Ok(Name::Attribute(name.into())),
        "property" => Property::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, property)| Name::Property(*property))
            .ok_or_else(|| {
                let known: Vec<_> = Property::ALL.iter().map(|(known, _)| *known).collect();
                TemplateError::new(behind, format!("there is no property `{name}`"))
                    .help(format!("the properties are {}", known.join(", ")))
            }),
        "message" => MessageField::named(name).map(Name::Message).ok_or_else(|| {
            TemplateError::new(behind, format!("a message has no field `{name}`"))
                .help("the fields are address, id and source")
        }),
        _ => Err(TemplateError::new(
            range.start..range.start + kind.len(),
            format!("`{kind}` is not a source of values"),
        )
        .help("the sources are header, property, attribute and message; a capture has no dot")),
    }
}

fn capture(written: &str, range: &Range<usize>) -> Result<Name, TemplateError> {
    let fits = |(number, char): (usize, char)| {
        char == '_' || char.is_ascii_alphabetic() || number > 0 && char.is_ascii_digit()
    };
    if written.chars().enumerate().all(fits) {
        return Ok(Name::Capture(written.into()));
    }
    let error = TemplateError::new(range.clone(), format!("`{written}` is not a name"));
    Err(if written.chars().all(|char| char.is_ascii_digit()) {
        error.help("give the wildcard a name in the pattern, as in `{device}`, and write that here")
    } else {
        error.help("a name is a letter or `_`, then letters, digits and `_`")
    })
}
