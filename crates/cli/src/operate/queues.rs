//! `transload queues`

use serde_json::{Value, json};

use super::{
    Done, Failure,
    access::Access,
    arguments::{Format, Queues},
    text::{cell, confirm, count, print_json, table},
};
use crate::{print, print_error};

pub(super) async fn run(access: &Access, command: &Queues) -> Result<Done, Failure> {
    match command {
        Queues::List { format } => list(access, *format).await,
        Queues::Move { from, to, format } => move_queue(access, from, to, *format).await,
        Queues::Drop { name, yes, format } => drop_queue(access, name, *yes, *format).await,
    }
}

async fn list(access: &Access, format: Format) -> Result<Done, Failure> {
    let answer = access.get("/queues").await?;
    if format.is_json() {
        print_json(&answer);
        return Ok(Done::Whole);
    }
    let columns = [
        ("QUEUE", "name"),
        ("KIND", "kind"),
        ("STORAGE", "storage"),
        ("MESSAGES", "messages"),
        ("BYTES", "bytes"),
        ("OLDEST", "oldest_at"),
    ];
    let queues = answer.get("queues").and_then(Value::as_array);
    let rows: Vec<Vec<_>> = queues
        .into_iter()
        .flatten()
        .map(|queue| {
            let mut row: Vec<_> = columns.iter().map(|(_, key)| cell(queue, key)).collect();
            let orphan = queue.get("orphan") == Some(&Value::Bool(true));
            let reason = queue.pointer("/circuit/reason").and_then(Value::as_str);
            row.push(match reason {
                _ if orphan => "belongs to nothing".to_owned(),
                Some(reason) => format!("takes no messages: {reason}"),
                None => String::new(),
            });
            row
        })
        .collect();
    let mut headings: Vec<_> = columns.iter().map(|(heading, _)| *heading).collect();
    headings.push("");
    print(&table(&headings, &rows));
    Ok(Done::Whole)
}

async fn move_queue(
    access: &Access,
    from: &str,
    to: &str,
    format: Format,
) -> Result<Done, Failure> {
    let (mut moved, mut left, mut after) = (0, Vec::new(), Value::Null);
    loop {
        let request = json!({ "from": from, "to": to, "after": after });
        let mut outcome = access.post("/queues/move", &request).await?;
        moved += outcome.get("moved").and_then(Value::as_u64).unwrap_or(0);
        if let Some(Value::Array(more)) = outcome.get_mut("left").map(Value::take) {
            left.extend(more);
        }
        after = outcome.get("next").cloned().unwrap_or(Value::Null);
        // A queue that has been emptied is gone, and cannot be asked for again.
        if after.is_null() || outcome.get("remaining") == Some(&json!(0)) {
            break;
        }
    }
    if format.is_json() {
        print_json(&json!({ "moved": moved, "left": left }));
    } else {
        print(&format!("{} moved to `{to}`.\n", count(moved, "message")));
        for message in &left {
            let (id, reason) = (cell(message, "id"), cell(message, "reason"));
            print(&format!("{id} stays: {reason}\n"));
        }
    }
    Ok(if left.is_empty() { Done::Whole } else { Done::InPart })
}

async fn drop_queue(
    access: &Access,
    name: &str,
    yes: bool,
    format: Format,
) -> Result<Done, Failure> {
    let answer = access.get("/queues").await?;
    let queues = answer.get("queues").and_then(Value::as_array);
    let queue = queues.into_iter().flatten().find(|queue| cell(queue, "name") == name);
    let messages = queue.and_then(|queue| queue.get("messages")).and_then(Value::as_u64);
    let question = format!(
        "Drop the queue `{name}` with {} for good?",
        count(messages.unwrap_or(0), "message")
    );
    if !yes && !confirm(&question)? {
        print_error("Nothing was dropped.\n");
        return Ok(Done::InPart);
    }
    let outcome = access.post("/queues/drop", &json!({ "name": name })).await?;
    if format.is_json() {
        print_json(&outcome);
    } else {
        let dropped = outcome.get("dropped").and_then(Value::as_u64).unwrap_or(0);
        print(&format!("{} dropped.\n", count(dropped, "message")));
    }
    Ok(Done::Whole)
}
