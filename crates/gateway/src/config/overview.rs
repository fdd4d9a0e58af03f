use std::fmt::Write as _;

use transload_adapter::{
    store::{QueueSettings, Storage},
    units::{ByteSize, HumanDuration},
};

use super::{
    carried::notices,
    model::{Configuration, Guarantee, Reply, Route},
};
use crate::limits::RouteLimits;

/// What a configuration amounts to, for people: adapters and where they listen or connect, routes
/// with sources, patterns, targets, guarantee and queue, what the guarantees mean, and what is
/// lost on the way.
pub fn overview(configuration: &Configuration) -> String {
    let mut text = String::new();
    let adapters: Vec<_> = configuration
        .adapters
        .iter()
        .map(|adapter| {
            vec![adapter.name.to_string(), adapter.kind.to_owned(), adapter.prepared.describe()]
        })
        .collect();
    write_table(&mut text, &["ADAPTER", "KIND", "WHERE"], &adapters);
    text.push('\n');
    let gateway = &configuration.gateway;
    let _ = writeln!(text, "Messages and sessions are kept in {}", gateway.data_dir.display());
    if let Some(admin) = gateway.admin {
        let _ = writeln!(text, "Health and metrics are at http://{admin}");
    }
    if configuration.routes.is_empty() {
        return text;
    }
    let mut rows = Vec::new();
    for route in &configuration.routes {
        rows.extend(route_rows(configuration, route));
    }
    text.push('\n');
    write_table(&mut text, &["ROUTE", "FROM", "MATCH", "TO", "GUARANTEE", "QUEUE"], &rows);
    let limited =
        configuration.routes.iter().filter(|route| route.limits != RouteLimits::default());
    let limits: Vec<_> = limited
        .map(|route| vec![format!("{}:", route.name), format!("takes {}", route.limits)])
        .collect();
    if !limits.is_empty() {
        text.push('\n');
        write_rows(&mut text, &limits);
    }
    let mut guarantees = Vec::new();
    for guarantee in [Guarantee::Stored, Guarantee::Delivered, Guarantee::BestEffort] {
        let queued = |route: &Route| route.reply.is_none() && route.guarantee == guarantee;
        if configuration.routes.iter().any(queued) {
            guarantees.push(vec![format!("{guarantee}:"), guarantee.explanation().to_owned()]);
        }
    }
    if configuration.routes.iter().any(|route| route.reply.is_some()) {
        let explanation = "the sender gets the target's reply, or is told why there is none; \
                           nothing is stored";
        guarantees.push(vec!["reply:".to_owned(), explanation.to_owned()]);
    }
    text.push('\n');
    write_rows(&mut text, &guarantees);
    let losses: Vec<_> = notices(configuration)
        .iter()
        .map(|notice| vec![format!("  {}", notice.pair()), notice.sentence()])
        .collect();
    if !losses.is_empty() {
        text.push_str("\nOn the way from one protocol to another (docs/SEMANTICS.md):\n");
        write_rows(&mut text, &losses);
    }
    text
}

/// One row for each target; what belongs to the whole route is in the first only.
fn route_rows(configuration: &Configuration, route: &Route) -> Vec<Vec<String>> {
    let name_of = |number: &usize| {
        configuration.adapters.get(*number).map_or("?", |adapter| &adapter.name).to_owned()
    };
    let from = if route.from.len() > 1 && route.from.len() == sources(configuration) {
        "any".to_owned()
    } else {
        route.from.iter().map(name_of).collect::<Vec<_>>().join(", ")
    };
    let patterns = route.patterns.iter().map(|pattern| pattern.as_str().to_owned());
    let mut matching = patterns.collect::<Vec<_>>().join(", ");
    if let Some(when) = &route.when {
        // One line, whatever lines it was written on.
        let condition: Vec<_> = when.predicate.as_str().split_whitespace().collect();
        let _ = write!(matching, " when {}", condition.join(" "));
    }
    let mut name = route.name.to_string();
    if route.fallback {
        name.push_str(" (fallback)");
    }
    if route.stop {
        name.push_str(" (stop)");
    }
    let mut rows = Vec::new();
    for (number, target) in route.to.iter().enumerate() {
        let description = &target.target.description;
        let to = match (name_of(&target.adapter), description.is_empty()) {
            (adapter, true) => adapter,
            (adapter, false) => format!("{adapter}: {description}"),
        };
        rows.push(if number == 0 {
            vec![
                name.clone(),
                from.clone(),
                matching.clone(),
                to,
                route.reply.map_or_else(|| route.guarantee.to_string(), |_| "reply".to_owned()),
                describe_queue(route),
            ]
        } else {
            let nothing = String::new;
            vec![nothing(), nothing(), nothing(), to, nothing(), nothing()]
        });
    }
    rows
}

fn sources(configuration: &Configuration) -> usize {
    configuration.adapters.iter().filter(|adapter| adapter.prepared.source().receives).count()
}

/// How a route with `reply` waits, in place of its queue.
fn waiting(reply: Reply) -> String {
    let within = HumanDuration::from(reply.timeout);
    let mut text = format!("none, up to {within}, {} in flight", reply.in_flight_max);
    if reply.gather > 1 {
        let _ = write!(text, ", gathers {}", reply.gather);
    }
    text
}

/// The queues of a route in a few words, such as `disk, 1000000 messages, 1GiB`.
pub(crate) fn describe_queue(route: &Route) -> String {
    if let Some(reply) = route.reply {
        return waiting(reply);
    }
    let settings: &QueueSettings = &route.queue;
    let storage = match settings.storage {
        Storage::Disk => "disk",
        Storage::Memory => "memory",
    };
    let mut text = format!(
        "{storage}, {} messages, {}",
        settings.messages_max,
        ByteSize::from_bytes(settings.bytes_max)
    );
    if let Some(age) = settings.age_max {
        let _ = write!(text, ", {}", HumanDuration::from(age));
    }
    if let Some(key) = &route.ordered_by {
        let _ = write!(text, ", {} lanes by {key}", route.lanes);
    }
    if let Some(batch) = &route.batch {
        let _ = write!(text, ", batches of {}", batch.messages_max);
    }
    text
}

fn write_table(text: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let head: Vec<_> = head.iter().map(|cell| (*cell).to_owned()).collect();
    write_all(text, std::iter::once(&head).chain(rows));
}

fn write_rows(text: &mut String, rows: &[Vec<String>]) {
    write_all(text, rows.iter());
}

/// Writes the rows with aligned columns, two spaces apart.
fn write_all<'r>(text: &mut String, rows: impl Iterator<Item = &'r Vec<String>> + Clone) {
    let mut widths = Vec::new();
    for row in rows.clone() {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let start = text.len();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ", width = *width);
        }
        let end = text.trim_end_matches(' ').len();
        text.truncate(end.max(start));
        text.push('\n');
    }
}
