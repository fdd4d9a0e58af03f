use std::time::Duration;

use http::HeaderName;

use super::{
    Delivery, Key, Refused, Scheme, Signed,
    mac::same,
    settings::{Algorithm, Encoding, Fault, VerifySettings},
};

/// Any scheme in which one field holds a keyed digest, as the settings describe it.
#[derive(Debug)]
pub(super) struct Hmac {
    header: HeaderName,
    prefix: String,
    algorithm: Algorithm,
    encoding: Encoding,
    content: Vec<Part>,
    timestamp: Option<(HeaderName, Duration)>,
    id: Option<HeaderName>,
    event: Option<HeaderName>,
}

/// A part of what is signed.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Header(HeaderName),
    Body,
}

impl Hmac {
    pub(super) fn new(settings: &VerifySettings, tolerance: Duration) -> Result<Self, Fault> {
        let Some(header) = name("header", settings.header.as_ref())? else {
            let message = "the scheme `hmac` needs the field that holds the signature";
            return Err(Fault::new("header", message).with_help("add `header = \"X-Signature\"`"));
        };
        let content = match &settings.content {
            None => vec![Part::Body],
            Some(text) => parse(text).map_err(|message| Fault::new("content", message))?,
        };
        let timestamp = name("timestamp_header", settings.timestamp_header.as_ref())?;
        if let Some(timestamp) = &timestamp
            && !content.contains(&Part::Header(timestamp.clone()))
        {
            let message = "the time is not signed, so anybody could change it";
            let help = format!("write `{{header.{timestamp}}}` in `content`");
            return Err(Fault::new("timestamp_header", message).with_help(help));
        }
        Ok(Self {
            header,
            prefix: settings.prefix.clone().unwrap_or_default(),
            algorithm: settings.algorithm.unwrap_or_default(),
            encoding: settings.encoding.unwrap_or_default(),
            content,
            timestamp: timestamp.map(|name| (name, tolerance)),
            id: name("id_header", settings.id_header.as_ref())?,
            event: name("event_header", settings.event_header.as_ref())?,
        })
    }
}

fn name(key: &'static str, written: Option<&String>) -> Result<Option<HeaderName>, Fault> {
    let Some(written) = written else { return Ok(None) };
    let wrong = |_| Fault::new(key, "this is not the name of a header field");
    HeaderName::try_from(written.as_str()).map(Some).map_err(wrong)
}

/// Reads what is signed: text with `{body}` and `{header.NAME}`, and `{{` and `}}` for braces.
fn parse(template: &str) -> Result<Vec<Part>, &'static str> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(character) = rest.chars().next() {
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
        match character {
            '{' | '}' if rest.starts_with(character) => {
                text.push(character);
                rest = rest.get(1..).unwrap_or_default();
            }
            '{' => {
                let (place, behind) = rest.split_once('}').ok_or("a `{` is not closed")?;
                rest = behind;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(match (place, place.strip_prefix("header.")) {
                    ("body", _) => Part::Body,
                    (_, Some(name)) => {
                        let name = HeaderName::try_from(name);
                        Part::Header(name.map_err(|_| "this is not the name of a header field")?)
                    }
                    (_, None) => return Err("only `{body}` and `{header.NAME}` are known here"),
                });
            }
            '}' => return Err("a `}` is not opened; a brace is written as `}}`"),
            other => text.push(other),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    if parts.iter().filter(|part| **part == Part::Body).count() == 1 {
        Ok(parts)
    } else {
        Err("the body must be signed: write `{body}` exactly once")
    }
}

impl Scheme for Hmac {
    fn check(&self, request: &Signed<'_>, key: &Key) -> Result<(), Refused> {
        let given = request.only(self.header.as_str())?;
        let given = given.strip_prefix(&*self.prefix).ok_or(Refused::Malformed)?;
        if let Some((name, tolerance)) = &self.timestamp {
            request.fresh(request.only(name.as_str())?, *tolerance)?;
        }
        let part = |part: &'_ Part| match part {
            Part::Text(text) => Ok(text.clone().into_bytes()),
            Part::Header(name) => request.only(name.as_str()).map(|text| text.as_bytes().to_vec()),
            Part::Body => Ok(Vec::new()),
        };
        let texts = self.content.iter().map(part).collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&[u8]> = self
            .content
            .iter()
            .zip(&texts)
            .map(|(part, text)| if *part == Part::Body { request.body() } else { &**text })
            .collect();
        let expected = key.mac(self.algorithm, &parts).written(self.encoding);
        if same(expected.as_bytes(), given.as_bytes()) { Ok(()) } else { Err(Refused::Different) }
    }

    fn delivery(&self, request: &Signed<'_>) -> Delivery {
        let told =
            |name: &Option<HeaderName>| name.as_ref().and_then(|name| request.told(name.as_str()));
        Delivery { id: told(&self.id), event: told(&self.event) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_written_as_a_template() {
        let header = |name| Part::Header(HeaderName::from_static(name));
        let text = |text: &str| Part::Text(text.to_owned());
        for (template, expected) in [
            ("{body}", Ok(vec![Part::Body])),
            (
                "v0:{header.X-Time}:{body}",
                Ok(vec![text("v0:"), header("x-time"), text(":"), Part::Body]),
            ),
            ("{{{body}}}", Ok(vec![text("{"), Part::Body, text("}")])),
            ("é{body}", Ok(vec![text("é"), Part::Body])),
            ("{header.x}", Err("exactly once")),
            ("{body}{body}", Err("exactly once")),
            ("", Err("exactly once")),
            ("{body", Err("not closed")),
            ("body}", Err("not opened")),
            ("{bodies}", Err("are known here")),
            ("{header.a b}{body}", Err("not the name")),
        ] {
            match (parse(template), expected) {
                (Ok(parts), Ok(expected)) => assert_eq!(parts, expected, "{template}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (parsed, _) => panic!("{template}: {parsed:?}"),
            }
        }
    }
}
