//! An explanation for people. All texts of messages pass through [`printable`].

use std::fmt::Write as _;

use serde_json::Value;

use crate::{operate::printable, paint::Paint};

/// The explanations one after the other.
pub(super) fn text(explained: &Value, colored: bool) -> String {
    let mut text = Text { into: String::new(), paint: Paint(colored) };
    for (number, one) in list(explained, "explanations").enumerate() {
        if number > 0 {
            text.line("");
        }
        text.explanation(one);
    }
    text.into
}

struct Text {
    into: String,
    paint: Paint,
}

impl Text {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.into, "{}", line.trim_end());
    }

    fn explanation(&mut self, one: &Value) {
        let paint = self.paint;
        let address = said(&one["message"], "address");
        let from = format!("{} ({})", said(one, "from"), said(one, "kind"));
        let outcome = match said(one, "outcome").as_str() {
            "routed" => paint.good("is routed"),
            "dropped" => "is taken and goes nowhere".to_owned(),
            "refused" => paint.bad("is refused"),
            _ => paint.bad("is wanted by no route"),
        };
        self.line(&format!("{} from {from} {outcome}", paint.bold(&address)));
        self.line("");
        for considered in list(one, "considered") {
            self.considered(considered);
        }
        self.others(&one["rules"]);
        for output in list(one, "outputs") {
            self.line("");
            self.output(output);
        }
    }

    fn considered(&mut self, rule: &Value) {
        let paint = self.paint;
        let route = said(rule, "route");
        let because = match said(rule, "verdict").as_str() {
            "applies" => {
                let pattern = said(rule, "pattern");
                let mut line = format!("  {} {}  {pattern}", paint.good("✓"), paint.bold(&route));
                for (name, captured) in pairs(&rule["captures"]) {
                    let _ = write!(line, "  {name} = {captured}");
                }
                self.line(&line);
                for (key, what) in [("limits", "takes "), ("limited", "")] {
                    let said = said(rule, key);
                    if !said.is_empty() {
                        self.line(&paint.dim(&format!("      {what}{said}")));
                    }
                }
                return;
            }
            "stopped" => format!("`{}` applies before it and says `stop`", said(rule, "by")),
            "not_needed" => {
                format!("it is a fallback, and `{}` applies", said(rule, "because_of"))
            }
            "other_source" => "it takes from other adapters".to_owned(),
            "no_pattern_matches" => {
                let patterns = list(rule, "patterns").filter_map(Value::as_str).map(printable);
                format!("the address does not match {}", patterns.collect::<Vec<_>>().join(", "))
            }
            _ => said(rule, "reason"),
        };
        self.line(&format!("  {} {}  {}", paint.bad("✗"), paint.bold(&route), paint.dim(&because)));
    }

    fn others(&mut self, rules: &Value) {
        let count = |key: &str| rules[key].as_u64().unwrap_or(0);
        let (source, pattern) = (count("other_source"), count("no_pattern_matches"));
        let mut parts = Vec::new();
        if source > 0 {
            parts.push(format!("{source} from other adapters"));
        }
        if pattern > 0 {
            parts.push(format!("{pattern} with other patterns"));
        }
        if parts.is_empty() {
            return;
        }
        let line = format!("  of {} routes: {}", count("all"), parts.join(", "));
        self.line(&self.paint.dim(&line));
        if count("not_listed") > 0 {
            self.line(&self.paint.dim(&format!("  {} more are not listed", count("not_listed"))));
        }
    }

    fn output(&mut self, output: &Value) {
        let paint = self.paint;
        let to = format!("{} ({})", paint.bold(&said(output, "to")), said(output, "kind"));
        self.line(&format!("{} → {to}", said(output, "route")));
        if let Some(reason) = output["dead_letter"].as_str() {
            self.line(&format!("  {}: {}", paint.bad("to the dead letters"), printable(reason)));
            return;
        }
        let at = said(output, "at");
        if !at.is_empty() {
            self.line(&format!("  {at}"));
        }
        let mut keys = pairs(&output["keys"]);
        for (name, text) in pairs(&output["place"]) {
            keys.retain(|(key, _)| *key != name);
            keys.push((name, text));
        }
        for (key, value) in keys {
            self.line(&format!("  {key} = {value}"));
        }
        if let Some(reason) = output["rejected"].as_str() {
            let reason = printable(reason);
            self.line(&format!("  {}: {reason}", paint.bad("the target will reject it")));
        }
        let (guarantee, queue) = (said(output, "guarantee"), said(output, "queue"));
        let queue = format!("  {guarantee}; queue {}: {queue}", said(output, "destination"));
        self.line(&paint.dim(&queue));
        let lost: Vec<_> = list(output, "lost").filter_map(Value::as_str).collect();
        if !lost.is_empty() {
            self.line(&format!("  {}: {}", paint.bad("cannot be carried"), lost.join(", ")));
        }
        self.changes(&output["changes"]);
    }

    fn changes(&mut self, changes: &Value) {
        let Some(changes) = changes.as_object().filter(|changes| !changes.is_empty()) else {
            self.line("  the message as it came in");
            return;
        };
        for (what, change) in changes {
            match change.as_array() {
                Some(list) if what == "payload" => {
                    self.line("  payload:");
                    for line in list.iter().filter_map(Value::as_str) {
                        let line = self.paint.compared(&printable(line));
                        self.line(&format!("    {line}"));
                    }
                }
                Some(list) => {
                    for change in list {
                        self.change(&format!("{what}.{}", said(change, "name")), change);
                    }
                }
                None => self.change(what, change),
            }
        }
    }

    fn change(&mut self, what: &str, change: &Value) {
        for (key, sign) in [("from", '-'), ("to", '+')] {
            if let Some(value) = change.get(key) {
                let line = format!("{sign} {what} = {}", printable(&value.to_string()));
                self.line(&format!("  {}", self.paint.compared(&line)));
            }
        }
    }
}

/// The text under a key, as it may be printed.
fn said(value: &Value, key: &str) -> String {
    value[key].as_str().map(printable).unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// The names and values of an object.
fn pairs(value: &Value) -> Vec<(String, String)> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(name, value)| (printable(name), printable(&value.to_string()))).collect()
}
