use std::{borrow::Cow, fmt::Write as _, iter::repeat_n};

use transload_adapter::{
    store::{QueueSettings, Storage},
    units::{ByteSize, HumanDuration},
};
use transload_envelope::Text;
use transload_routing::Pattern;

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
    let mut adapters = Rows::with_head(&["ADAPTER", "KIND", "WHERE"]);
    for adapter in &configuration.adapters {
        adapters.add(&[&adapter.name, adapter.kind, &adapter.prepared.describe()]);
    }
    adapters.write(&mut text);
    text.push('\n');
    let gateway = &configuration.gateway;
    let _ = writeln!(text, "Messages and sessions are kept in {}", gateway.data_dir.display());
    if let Some(admin) = gateway.admin {
        let _ = writeln!(text, "Health and metrics are at http://{admin}");
    }
    if configuration.routes.is_empty() {
        return text;
    }
    text.push('\n');
    let mut rows = Rows::with_head(&["ROUTE", "FROM", "MATCH", "TO", "GUARANTEE", "QUEUE"]);
    let receiving = sources(configuration);
    let mut queue = Described::default();
    for route in &configuration.routes {
        add_route(configuration, route, receiving, queue.of(route), &mut rows);
    }
    rows.write(&mut text);
    write_limits(&configuration.routes, &mut text);
    text.push('\n');
    write_guarantees(&configuration.routes, &mut text);
    let mut losses = Rows::default();
    for notice in notices(configuration) {
        losses.add(&[&format!("  {}", notice.pair()), &notice.sentence()]);
    }
    if !losses.is_empty() {
        text.push_str("\nOn the way from one protocol to another (docs/SEMANTICS.md):\n");
        losses.write(&mut text);
    }
    text
}

fn write_limits(routes: &[Route], text: &mut String) {
    let mut limits = Rows::default();
    for route in routes.iter().filter(|route| route.limits != RouteLimits::default()) {
        limits.add(&[&format!("{}:", route.name), &format!("takes {}", route.limits)]);
    }
    if !limits.is_empty() {
        text.push('\n');
        limits.write(text);
    }
}

/// What the guarantees mean that are given.
fn write_guarantees(routes: &[Route], text: &mut String) {
    let mut guarantees = Rows::default();
    for guarantee in [Guarantee::Stored, Guarantee::Delivered, Guarantee::BestEffort] {
        let queued = |route: &Route| route.reply.is_none() && route.guarantee == guarantee;
        if routes.iter().any(queued) {
            guarantees.add(&[&format!("{guarantee}:"), guarantee.explanation()]);
        }
    }
    if routes.iter().any(|route| route.reply.is_some()) {
        let explanation = "the sender gets the target's reply, or is told why there is none; \
                           nothing is stored";
        guarantees.add(&["reply:", explanation]);
    }
    guarantees.write(text);
}

/// One row for each target; what belongs to the whole route is in the first only.
fn add_route(
    configuration: &Configuration,
    route: &Route,
    receiving: usize,
    queue: &str,
    rows: &mut Rows,
) {
    let name_of =
        |number: usize| configuration.adapters.get(number).map_or("?", |adapter| &*adapter.name);
    for (number, target) in route.to.iter().enumerate() {
        let first = number == 0;
        if first {
            let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
            let marks = [mark(route.fallback, " (fallback)"), mark(route.stop, " (stop)")];
            rows.cell(&[&route.name, marks[0], marks[1]]);
            match &route.from[..] {
                [one] => rows.cell(&[name_of(*one)]),
                all if all.len() == receiving => rows.cell(&["any"]),
                some => {
                    let from: Vec<_> = some.iter().map(|number| name_of(*number)).collect();
                    rows.cell(&[&from.join(", ")]);
                }
            }
            rows.cell(&[&matching(route)]);
        } else {
            for _nothing in 0..3 {
                rows.cell(&[]);
            }
        }
        match (name_of(target.adapter), &*target.target.description) {
            (adapter, "") => rows.cell(&[adapter]),
            (adapter, description) => rows.cell(&[adapter, ": ", description]),
        }
        match (first, route.reply) {
            (true, Some(_)) => rows.cell(&["reply"]),
            (true, None) => rows.cell(&[route.guarantee.as_str()]),
            (false, _) => rows.cell(&[]),
        }
        rows.cell(&[if first { queue } else { "" }]);
        rows.end_row();
    }
}

/// The description of a route's queue. Most routes have the same queue as the one before.
#[derive(Default)]
pub(crate) struct Described<'a> {
    route: Option<&'a Route>,
    text: Text,
}

impl<'a> Described<'a> {
    pub(crate) fn of(&mut self, route: &'a Route) -> &Text {
        if !self.route.is_some_and(|known| waits_alike(known, route)) {
            self.text = describe_queue(route).into();
        }
        self.route = Some(route);
        &self.text
    }
}

/// Patterns and condition.
fn matching(route: &Route) -> Cow<'_, str> {
    if let ([pattern], None) = (&route.patterns[..], &route.when) {
        return Cow::Borrowed(pattern.as_str());
    }
    let mut matching = route.patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
    if let Some(when) = &route.when {
        // One line, whatever lines it was written on.
        let condition: Vec<_> = when.predicate.as_str().split_whitespace().collect();
        let _ = write!(matching, " when {}", condition.join(" "));
    }
    Cow::Owned(matching)
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
fn describe_queue(route: &Route) -> String {
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

/// Whether [`describe_queue`] says the same of both.
fn waits_alike(one: &Route, other: &Route) -> bool {
    let of = |route: &Route| (route.reply, route.queue, route.lanes);
    of(one) == of(other) && one.ordered_by == other.ordered_by && one.batch == other.batch
}

/// Rows of cells, all in one text: a large configuration has very many.
#[derive(Default)]
struct Rows {
    cells: String,
    /// Where each cell ends and how many characters it has, and where each row ends among the cells.
    ends: Vec<(usize, usize)>,
    row_ends: Vec<usize>,
}

impl Rows {
    fn with_head(head: &[&str]) -> Self {
        let mut rows = Self::default();
        rows.add(head);
        rows
    }

    fn add(&mut self, cells: &[&str]) {
        for cell in cells {
            self.cell(&[cell]);
        }
        self.end_row();
    }

    /// Adds a cell that is put together of some texts.
    fn cell(&mut self, parts: &[&str]) {
        let mut width = 0;
        for part in parts {
            self.cells.push_str(part);
            width += part.chars().count();
        }
        self.ends.push((self.cells.len(), width));
    }

    fn end_row(&mut self) {
        self.row_ends.push(self.ends.len());
    }

    fn is_empty(&self) -> bool {
        self.row_ends.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = impl Iterator<Item = (&str, usize)>> {
        let starts = std::iter::once(0).chain(self.row_ends.iter().copied());
        starts.zip(&self.row_ends).map(move |(start, end)| {
            let cell = move |number: usize| {
                let before = number.checked_sub(1).and_then(|before| self.ends.get(before));
                let start = before.map_or(0, |(end, _)| *end);
                let (end, width) = self.ends.get(number).copied()?;
                Some((self.cells.get(start..end)?, width))
            };
            (start..*end).filter_map(cell)
        })
    }

    /// Writes the rows with aligned columns, two spaces apart.
    fn write(&self, text: &mut String) {
        let mut widths = Vec::new();
        for row in self.iter() {
            for (column, (_, width)) in row.enumerate() {
                match widths.get_mut(column) {
                    Some(known) => *known = width.max(*known),
                    None => widths.push(width),
                }
            }
        }
        for row in self.iter() {
            let start = text.len();
            for ((cell, own), width) in row.zip(&widths) {
                text.push_str(cell);
                text.extend(repeat_n(' ', width + 2 - own));
            }
            let end = text.trim_end_matches(' ').len();
            text.truncate(end.max(start));
            text.push('\n');
        }
    }
}
