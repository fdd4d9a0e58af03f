//! `transload explain`

mod arguments;
mod text;

use std::{
    fs,
    io::{self, Read as _},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use transload_gateway::{
    Explainer, Message,
    config::{Loaded, load},
};

pub(crate) use self::arguments::Explain;
use crate::{
    adapters,
    arguments::{Arguments, ReportFormat},
    colored, environment,
    exit::Outcome,
    operate, print, print_error,
};

/// Explains where a message would go.
pub(crate) fn explain(arguments: &Arguments, wanted: &Explain) -> Outcome {
    let Loaded { configuration, report, .. } =
        load(&arguments.config, &environment, &adapters::registry());
    let Some(configuration) = configuration else {
        print_error(&report.render(colored(&io::stderr())));
        return Outcome::Faults;
    };
    let explained = match &wanted.id {
        Some(id) => {
            let id = utf8_percent_encode(id, NON_ALPHANUMERIC);
            operate::ask(&configuration, &format!("/explain?id={id}&all={}", wanted.all))
        }
        None => message(wanted)
            .and_then(|message| Explainer::new(&configuration).explain(&message, wanted.all)),
    };
    match explained {
        Ok(explained) => {
            show(wanted, &explained);
            Outcome::Well
        }
        Err(reason) => {
            print_error(&format!("error: {reason}\n"));
            Outcome::Incomplete
        }
    }
}

fn show(wanted: &Explain, explained: &Value) {
    match wanted.format {
        ReportFormat::Json => print(&format!("{explained:#}\n")),
        ReportFormat::Text => print(&text::text(explained, colored(&io::stdout()))),
    }
}

/// The message that the command line describes.
fn message(wanted: &Explain) -> Result<Message, String> {
    let mut object = match &wanted.file {
        Some(path) => {
            let bytes = read(path)?;
            let value: Value = serde_json::from_slice(&bytes)
                .map_err(|error| format!("`{path}` is no JSON: {error}"))?;
            let Value::Object(object) = value else {
                return Err(format!("`{path}` holds no object"));
            };
            object
        }
        None => Map::new(),
    };
    for (key, given) in [("address", &wanted.address), ("from", &wanted.from)] {
        if let Some(text) = given {
            object.insert(key.to_owned(), json!(text));
        }
    }
    if !object.contains_key("address") {
        return Err("give the address of the message, such as `devices/d1/telemetry`".to_owned());
    }
    let fault = |fault: transload_gateway::MessageFault| fault.to_string();
    let mut message = Message::from_json(&object).map_err(fault)?;
    for header in &wanted.header {
        message.headers.push(header.name.as_str(), header.value.as_str());
    }
    for property in &wanted.property {
        message.set_property(&property.name, &json!(property.value)).map_err(fault)?;
    }
    for attribute in &wanted.attribute {
        let (name, value) = (attribute.name.as_str(), attribute.value.as_str());
        message.attributes.push((name.into(), value.into()));
    }
    if let Some(text) = &wanted.payload {
        message.payload = text.clone().into();
    }
    if let Some(path) = &wanted.payload_file {
        message.payload = read(path)?.into();
    }
    Ok(message)
}

/// The bytes of a file; `-` stands for standard input.
fn read(path: &str) -> Result<Vec<u8>, String> {
    let read = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| format!("`{path}` cannot be read: {error}"))
}
