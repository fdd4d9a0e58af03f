//! `transload test`

use std::{fmt::Write as _, io};

use clap::Args;
use serde_json::Value;
use transload_gateway::{
    config::{Loaded, load_with_tests},
    run_tests,
};

use crate::{
    adapters,
    arguments::{Arguments, ReportFormat},
    colored, environment,
    exit::Outcome,
    operate::printable,
    paint::Paint,
    print, print_error,
};

/// Which tests to run.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Only tests whose names contain this text.
    #[arg(value_name = "TEXT", default_value = "")]
    containing: String,

    /// The form of the outcome on standard output.
    #[arg(long, value_name = "FORM", default_value = "text")]
    format: ReportFormat,
}

/// Runs the tests of the rules file and of the file of tests beside it.
pub(crate) fn test(arguments: &Arguments, wanted: &Test) -> Outcome {
    let Loaded { configuration, report, .. } =
        load_with_tests(&arguments.config, &environment, &adapters::registry());
    let Some(configuration) = configuration else {
        match wanted.format {
            ReportFormat::Json => print(&format!("{:#}\n", report.to_json())),
            ReportFormat::Text => print_error(&report.render(colored(&io::stderr()))),
        }
        return Outcome::Faults;
    };
    let outcome = run_tests(&configuration, &wanted.containing);
    // The process ends here, and a large configuration takes long to take apart.
    std::mem::forget(configuration);
    match wanted.format {
        ReportFormat::Json => print(&format!("{outcome:#}\n")),
        ReportFormat::Text => print(&text(&outcome, Paint(colored(&io::stdout())))),
    }
    let failed = outcome.get("failed").and_then(Value::as_u64);
    if failed == Some(0) { Outcome::Well } else { Outcome::Faults }
}

fn text(outcome: &Value, paint: Paint) -> String {
    let mut text = String::new();
    for test in outcome["tests"].as_array().into_iter().flatten() {
        let name = said(test, "name");
        if test["passed"] == true {
            let _ = writeln!(text, "{} {name}", paint.good("ok  "));
            continue;
        }
        let _ = writeln!(text, "{} {}", paint.bad("FAIL"), paint.bold(&name));
        let _ = writeln!(text, "     {}:{}", said(test, "file"), test["line"]);
        for difference in test["differences"].as_array().into_iter().flatten() {
            write_difference(&mut text, difference, paint);
        }
    }
    let (passed, failed) = (&outcome["passed"], &outcome["failed"]);
    let summary = match (passed.as_u64(), failed.as_u64()) {
        (Some(0), Some(0)) => "there is no test: write `[[test]]`".to_owned(),
        (_, Some(0)) => paint.good(&format!("{passed} passed")),
        _ => paint.bad(&format!("{failed} failed, {passed} passed")),
    };
    let _ = writeln!(text, "{summary}");
    text
}

fn write_difference(text: &mut String, difference: &Value, paint: Paint) {
    let to = said(difference, "to");
    let by = match said(difference, "route") {
        route if route.is_empty() => String::new(),
        route => format!(" by route `{route}`"),
    };
    let sentence = match said(difference, "what").as_str() {
        "different" => format!("`{to}` is sent something else{by}:"),
        "missing" => format!("`{to}` is sent nothing{by}; expected:"),
        "unexpected" => format!("`{to}` is sent what was not expected{by}:"),
        "dead_letter" => format!("`{to}` gets nothing, the message goes to the dead letters{by}:"),
        "no_dead_letter" => "the message does not go to the dead letters; expected:".to_owned(),
        _ => "the message comes in nowhere".to_owned(),
    };
    let _ = writeln!(text, "     {sentence}");
    let mut compared = |sign: char, key: &str, value: &Value| {
        let key = if key.is_empty() { String::new() } else { format!("{key} = ") };
        let line = format!("{sign} {key}{}", shown(value));
        let _ = writeln!(text, "       {}", paint.compared(&line));
    };
    for (sign, key) in [('-', "expected"), ('+', "found")] {
        let value = &difference[key];
        match value.as_object() {
            Some(keys) => {
                keys.iter().for_each(|(key, value)| compared(sign, &printable(key), value));
            }
            None if value.is_null() => {}
            None => compared(sign, "", value),
        }
    }
    if difference["what"] == "unexpected" {
        let message = &difference["message"];
        for key in ["address", "payload", "payload_base64"] {
            if !message[key].is_null() {
                compared('+', key, &message[key]);
            }
        }
    }
    for key in difference["keys"].as_array().into_iter().flatten() {
        let name = said(key, "key");
        if let Some(lines) = key["diff"].as_array() {
            let _ = writeln!(text, "       {name}:");
            for line in lines.iter().filter_map(Value::as_str) {
                let _ = writeln!(text, "       {}", paint.compared(&printable(line)));
            }
            continue;
        }
        for (sign, side) in [('-', "expected"), ('+', "found")] {
            let line = format!("{sign} {name} = {}", shown(&key[side]));
            let _ = writeln!(text, "       {}", paint.compared(&line));
        }
    }
}

fn shown(value: &Value) -> String {
    if value.is_null() { "nothing".to_owned() } else { printable(&value.to_string()) }
}

fn said(value: &Value, key: &str) -> String {
    value[key].as_str().map(printable).unwrap_or_default()
}
