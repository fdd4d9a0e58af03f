//! `transload dead-letters`

use std::{collections::BTreeMap, fmt::Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    Done, Failure,
    access::Access,
    arguments::{DeadLetters, Filters, Format},
    text::{cell, confirm, count, print_json, printable, table},
};
use crate::{print, print_error};

/// How many letters are listed at once.
const PAGE: usize = 1_000;

/// How many letters are changed at once, so that the progress can be seen.
const PIECE: usize = 200;

pub(super) async fn run(access: &Access, command: &DeadLetters) -> Result<Done, Failure> {
    match command {
        DeadLetters::List { filters, format } => list(access, filters, *format).await,
        DeadLetters::Show { route, position, format } => {
            show(access, route, *position, *format).await
        }
        DeadLetters::Replay { filters, all, to_route, format } => {
            check_deliberate(filters, *all)?;
            replay(access, filters, to_route.as_deref(), *format).await
        }
        DeadLetters::Drop { filters, all, yes, format } => {
            check_deliberate(filters, *all)?;
            drop_letters(access, filters, *yes, *format).await
        }
    }
}

fn check_deliberate(filters: &Filters, all: bool) -> Result<(), Failure> {
    if all || !filters.given().is_empty() {
        return Ok(());
    }
    Err("give a filter, or say `--all`".to_owned())
}

/// Takes all letters that are meant, page by page.
async fn each(
    access: &Access,
    filters: &Filters,
    mut take: impl FnMut(Vec<Value>),
) -> Result<(), Failure> {
    let mut left = filters.limit.unwrap_or(usize::MAX);
    let mut after = None;
    while left > 0 {
        let mut query = format!("limit={}", left.min(PAGE));
        for (name, text) in filters.given().into_iter().chain(after) {
            let _ = write!(query, "&{name}={}", utf8_percent_encode(&text, NON_ALPHANUMERIC));
        }
        let mut page = access.get(&format!("/dead-letters?{query}")).await?;
        let letters = page.get_mut("letters").map(Value::take);
        let Some(Value::Array(letters)) = letters else {
            return Err("the answer has no dead letters in it".to_owned());
        };
        left = left.saturating_sub(letters.len());
        take(letters);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(("after", next.to_owned())),
            None => break,
        }
    }
    Ok(())
}

async fn list(access: &Access, filters: &Filters, format: Format) -> Result<Done, Failure> {
    let mut letters = Vec::new();
    each(access, filters, |page| letters.extend(page)).await?;
    if format.is_json() {
        print_json(&json!({ "letters": letters }));
        return Ok(Done::Whole);
    }
    if letters.is_empty() {
        print_error("There are no such dead letters.\n");
        return Ok(Done::Whole);
    }
    let columns = [
        ("ROUTE", "route"),
        ("POSITION", "position"),
        ("LAST FAILURE", "last_failure_at"),
        ("ATTEMPTS", "attempts"),
        ("ID", "id"),
        ("ADDRESS", "address"),
        ("REASON", "reason"),
    ];
    let rows: Vec<Vec<_>> = letters
        .iter()
        .map(|letter| columns.iter().map(|(_, key)| cell(letter, key)).collect())
        .collect();
    print(&table(&columns.map(|(heading, _)| heading), &rows));
    Ok(Done::Whole)
}

async fn show(
    access: &Access,
    route: &str,
    position: u64,
    format: Format,
) -> Result<Done, Failure> {
    let route = utf8_percent_encode(route, NON_ALPHANUMERIC);
    let letter = access.get(&format!("/dead-letters/{route}/{position}")).await?;
    if format.is_json() {
        print_json(&letter);
        return Ok(Done::Whole);
    }
    let mut text = String::new();
    for (key, value) in letter.as_object().into_iter().flatten() {
        match (key.as_str(), value) {
            ("payload" | "payload_base64", _) => {}
            ("headers", Value::Array(headers)) => {
                for header in headers {
                    let (name, value) = (cell(header, "name"), cell(header, "value"));
                    let _ = writeln!(text, "{:20}{name}: {value}", "header");
                }
            }
            (key, Value::Object(inner)) => {
                for name in inner.keys() {
                    let name_and_value = format!("{}: {}", printable(name), cell(value, name));
                    let _ = writeln!(text, "{key:20}{name_and_value}");
                }
            }
            (key, _) => {
                let _ = writeln!(text, "{key:20}{}", cell(&letter, key));
            }
        }
    }
    let payload = match letter.get("payload").and_then(Value::as_str) {
        Some(payload) => payload.lines().map(printable).collect::<Vec<_>>().join("\n"),
        None => format!("{} (base64)", cell(&letter, "payload_base64")),
    };
    print(&format!("{text}\n{payload}\n"));
    Ok(Done::Whole)
}

/// The positions of all letters that are meant, by route.
async fn select(access: &Access, filters: &Filters) -> Result<BTreeMap<String, Vec<u64>>, Failure> {
    let mut selected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let take = |page: Vec<Value>| {
        for letter in page {
            let route = letter.get("route").and_then(Value::as_str);
            let position = letter.get("position").and_then(Value::as_u64);
            if let (Some(route), Some(position)) = (route, position) {
                selected.entry(route.to_owned()).or_default().push(position);
            }
        }
    };
    each(access, filters, take).await?;
    Ok(selected)
}

fn size(selected: &BTreeMap<String, Vec<u64>>) -> u64 {
    selected.values().map(|positions| positions.len() as u64).sum()
}

/// Exactly what was found at the start is sent, so that what fails again is not sent for ever.
async fn replay(
    access: &Access,
    filters: &Filters,
    to_route: Option<&str>,
    format: Format,
) -> Result<Done, Failure> {
    let selected = select(access, filters).await?;
    let bar = progress(size(&selected));
    let (mut replayed, mut under_way, mut left) = (0, 0, Vec::new());
    for (route, positions) in &selected {
        for piece in positions.chunks(PIECE) {
            let request = json!({ "route": route, "positions": piece, "to_route": to_route });
            let mut outcome =
                access.post("/dead-letters/replay", &request).await.map_err(|error| {
                    bar.abandon();
                    format!("{error}; {} had been sent before", count(replayed, "dead letter"))
                })?;
            replayed += outcome.get("replayed").and_then(Value::as_u64).unwrap_or(0);
            under_way += outcome.get("under_way").and_then(Value::as_u64).unwrap_or(0);
            if let Some(Value::Array(more)) = outcome.get_mut("left").map(Value::take) {
                left.extend(more);
            }
            bar.inc(piece.len() as u64);
        }
    }
    bar.finish_and_clear();
    let done = if left.is_empty() { Done::Whole } else { Done::InPart };
    if format.is_json() {
        print_json(&json!({ "replayed": replayed, "under_way": under_way, "left": left }));
        return Ok(done);
    }
    print(&format!("{} sent again.\n", count(replayed, "dead letter")));
    if under_way > 0 {
        let waits = count(under_way, "dead letter");
        print(&format!("{waits} on the way to a queue in memory, kept until delivered.\n"));
    }
    for letter in &left {
        let (route, position) = (cell(letter, "route"), cell(letter, "position"));
        print(&format!("{route} {position} stays: {}\n", cell(letter, "reason")));
    }
    Ok(done)
}

/// Is not drawn where there is no terminal.
fn progress(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} left");
    match style {
        Ok(style) => ProgressBar::new(length).with_style(style),
        Err(_) => ProgressBar::new(length),
    }
}

async fn drop_letters(
    access: &Access,
    filters: &Filters,
    yes: bool,
    format: Format,
) -> Result<Done, Failure> {
    let selected = select(access, filters).await?;
    let number = size(&selected);
    let question = format!("Drop {} for good?", count(number, "dead letter"));
    if number > 0 && !yes && !confirm(&question)? {
        print_error("Nothing was dropped.\n");
        return Ok(Done::InPart);
    }
    let mut dropped = 0;
    for (route, positions) in &selected {
        for piece in positions.chunks(PIECE) {
            let request = json!({ "route": route, "positions": piece });
            let outcome = access.post("/dead-letters/drop", &request).await?;
            dropped += outcome.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        }
    }
    if format.is_json() {
        print_json(&json!({ "dropped": dropped }));
    } else {
        print(&format!("{} dropped.\n", count(dropped, "dead letter")));
    }
    Ok(Done::Whole)
}
