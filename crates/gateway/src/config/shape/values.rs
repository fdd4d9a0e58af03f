//! Values of the file that a message may fill in.

use serde_json::{Map, Number, Value as Json};
use toml::de::{DeInteger, DeValue};
use transload_routing::{Computed, Template};

use super::Reading;
use crate::config::{check::Check, finding::Finding, source::Place, targets, tree::Value};

impl<'a> Check<'a> {
    /// Reads a value in which every text is a template.
    pub(super) fn computed(&mut self, reading: &Reading<'_>, value: Value<'a>) -> Option<Computed> {
        match value.get_ref() {
            DeValue::String(_) => self.text(reading, &value),
            DeValue::Array(_) => {
                let list = super::one_or_several(value).into_iter();
                let list: Vec<_> = list.map(|value| self.computed(reading, value)).collect();
                let list: Option<Vec<_>> = list.into_iter().collect();
                Some(constant_list(list?))
            }
            DeValue::Table(_) => {
                let DeValue::Table(table) = value.into_inner() else { return None };
                let mut members = Vec::new();
                let mut sound = true;
                for (key, value) in table {
                    match self.computed(reading, value) {
                        Some(value) => members.push((key.get_ref().as_ref().into(), value)),
                        None => sound = false,
                    }
                }
                sound.then(|| constant_table(members))
            }
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => self.constant(reading, &value),
        }
    }

    fn constant(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Computed> {
        let unfit = match value.get_ref() {
            DeValue::Integer(number) => integer_of(number).is_none(),
            DeValue::Float(number) => {
                number.as_str().parse::<f64>().ok().and_then(Number::from_f64).is_none()
            }
            DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => false,
        };
        if unfit {
            self.unexpected(reading.file, value, "a number that JSON has, of 64 bits", None);
            return None;
        }
        Some(Computed::Constant(json(value.get_ref())))
    }

    fn text(&mut self, reading: &Reading<'_>, value: &Value<'a>) -> Option<Computed> {
        let text = value.get_ref().as_str()?;
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                let place = self.inside(reading.file, value.span(), text, error.range.clone());
                self.report(Finding::error(place, error.message).with_help(error.help));
                return None;
            }
        };
        if template.is_constant() && !text.contains(['{', '}']) {
            return Some(Computed::Constant(Json::from(text)));
        }
        for (range, finding) in targets::unknown_captures(&template, reading.patterns) {
            let place = self.inside(reading.file, value.span(), text, range);
            self.report(Finding { place: Some::<Place>(place), ..finding });
        }
        Some(Computed::Template(template))
    }
}

/// A list of constants is a constant.
fn constant_list(list: Vec<Computed>) -> Computed {
    let constants = list.iter().map(|value| match value {
        Computed::Constant(value) => Some(value.clone()),
        Computed::Template(_) | Computed::List(_) | Computed::Table(_) | Computed::FromNow(_) => {
            None
        }
    });
    match constants.collect::<Option<Vec<_>>>() {
        Some(constants) => Computed::Constant(Json::Array(constants)),
        None => Computed::List(list),
    }
}

fn constant_table(table: Vec<(transload_envelope::Text, Computed)>) -> Computed {
    let constants = table.iter().map(|(name, value)| match value {
        Computed::Constant(value) => Some((name.to_string(), value.clone())),
        Computed::Template(_) | Computed::List(_) | Computed::Table(_) | Computed::FromNow(_) => {
            None
        }
    });
    match constants.collect::<Option<Map<_, _>>>() {
        Some(constants) => Computed::Constant(Json::Object(constants)),
        None => Computed::Table(table),
    }
}

/// The value as JSON: times become text.
pub(super) fn json(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Integer(number) => integer_of(number).map_or(Json::Null, Json::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(truth) => Json::from(*truth),
        DeValue::Datetime(time) => Json::from(time.to_string()),
        DeValue::Array(list) => list.iter().map(|value| json(value.get_ref())).collect(),
        DeValue::Table(table) => {
            let members = table.iter();
            let members =
                members.map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref())));
            Json::Object(members.collect())
        }
    }
}

/// An integer of the file, if it fits 64 bits.
pub(super) fn integer(value: &DeValue<'_>) -> Option<i64> {
    value.as_integer().and_then(integer_of)
}

fn integer_of(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}
