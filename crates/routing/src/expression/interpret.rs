//! Evaluating by the library: whatever has no native form.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cel::{
    Context, ExecutionError, Value,
    common::{
        types::{
            CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString,
            CelUInt,
        },
        value::{CowVal, Val},
    },
    context::VariableResolver,
    objects::Key,
};
use serde_json::{Map, Number, Value as Json};
use smallvec::SmallVec;

use super::{Compiled, Fault, Tree, functions, resolve::Variable};
use crate::facts::{Fact, Scope, bytes_to_json};

/// The values at the paths of an expression, as the library knows values.
///
/// All of them are found beforehand: it is seldom more than one or two, and the library wants what
/// can be sent between threads, which the shared facts of a message cannot.
struct Variables<'v>(SmallVec<[Option<Box<dyn Val + 'v>>; 4]>);

static PRESENT: [CelBool; 2] = [CelBool::FALSE, CelBool::TRUE];

impl VariableResolver for Variables<'_> {
    fn resolve<'b>(&'b self, name: &str) -> Option<CowVal<'b, 'b>> {
        match Variable::named(name)? {
            Variable::Value(number) => self.0.get(number)?.as_deref().map(CowVal::Borrowed),
            Variable::Presence(number) => {
                let present = self.0.get(number)?.is_some();
                PRESENT.get(usize::from(present)).map(|truth| CowVal::Borrowed(truth))
            }
        }
    }
}

/// Evaluates the tree of an expression.
pub(super) fn evaluate(
    compiled: &Compiled,
    tree: &Tree,
    scope: &Scope<'_>,
) -> Result<Value, Fault> {
    let found = compiled.operands.iter().map(|operand| operand.find(scope).map(to_val));
    let variables = Variables(found.collect());
    let mut context = Context::with_env(Arc::clone(&functions::ENVIRONMENT));
    context.set_variable_resolver(&variables);
    // The interpreter is no work of ours and reads what strangers send: should it ever panic, then
    // that is a failure for this message and for nothing else.
    let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(tree, &context)));
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(fault(&error)),
        Err(_) => Err(Fault::Failed("the expression cannot be calculated".into())),
    }
}

/// Whether the tree of a condition holds; what is no truth value is an error.
pub(super) fn test(compiled: &Compiled, tree: &Tree, scope: &Scope<'_>) -> Result<bool, Fault> {
    match evaluate(compiled, tree, scope)? {
        Value::Bool(truth) => Ok(truth),
        other => Err(Fault::NoTruth(name_of(&other))),
    }
}

/// What an error of the library means: that something is absent, or that it went wrong.
fn fault(error: &ExecutionError) -> Fault {
    match error {
        ExecutionError::UndeclaredReference(name) => match Variable::named(name) {
            Some(Variable::Value(number) | Variable::Presence(number)) => Fault::Absent(number),
            None => Fault::Failed(error.to_string().into()),
        },
        ExecutionError::NoSuchKey(key) => Fault::AbsentField(key.as_str().into()),
        ExecutionError::IndexOutOfBounds(Value::Int(number)) => {
            Fault::AbsentField(format!("[{number}]").into())
        }
        ExecutionError::NoSuchOverload(overload) if overload.function() == "_._" => {
            Fault::AbsentField("a field of what is no map".into())
        }
        ExecutionError::NoSuchOverload(overload) => match functions::explain_overload(overload) {
            (_, true) => Fault::Null,
            (message, false) => Fault::Failed(message.into()),
        },
        ExecutionError::UnexpectedType { got, .. } if got == "null_type" => Fault::Null,
        ExecutionError::UnexpectedType { got, want } => {
            let (got, want) = (functions::name_of(got), functions::name_of(want));
            Fault::Failed(format!("{got} stands where {want} is needed").into())
        }
        ExecutionError::DivisionByZero(_) => Fault::Failed("division by zero".into()),
        ExecutionError::RemainderByZero(_) => {
            Fault::Failed("remainder of a division by zero".into())
        }
        ExecutionError::Overflow(..) => Fault::Failed("the result is too large a number".into()),
        other => Fault::Failed(other.to_string().into()),
    }
}

/// A value of a message as the library knows it, without a copy where that is possible.
fn to_val<'v>(fact: Fact<'v>) -> Box<dyn Val + 'v> {
    match fact {
        Fact::Null => Box::new(CelNull),
        Fact::Bool(truth) => Box::new(CelBool::from(truth)),
        Fact::Int(number) => Box::new(CelInt::from(number)),
        Fact::UInt(number) => Box::new(CelUInt::from(number)),
        Fact::Float(number) => Box::new(CelDouble::from(number)),
        Fact::Text(text) => Box::new(CelString::from(text)),
        Fact::Bytes(bytes) => Box::new(CelBytes::from(bytes)),
        Fact::Json(..) | Fact::Header(_) | Fact::Named(_) => json_to_val(fact.to_json()),
    }
}

fn json_to_val<'v>(json: Json) -> Box<dyn Val + 'v> {
    match json {
        Json::Null => Box::new(CelNull),
        Json::Bool(truth) => Box::new(CelBool::from(truth)),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Box::new(CelInt::from(number)),
            (None, Some(number), _) => Box::new(CelUInt::from(number)),
            (None, None, number) => Box::new(CelDouble::from(number.unwrap_or_default())),
        },
        Json::String(text) => Box::new(CelString::from(text)),
        Json::Array(list) => {
            let list: Vec<Box<dyn Val + 'v>> = list.into_iter().map(json_to_val).collect();
            Box::new(CelList::from(list))
        }
        Json::Object(map) => {
            let entries =
                map.into_iter().map(|(key, value)| (CelMapKey::from(key), json_to_val(value)));
            let map: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> = entries.collect();
            Box::new(CelMap::from(map))
        }
    }
}

/// A result as JSON; `None` for what JSON has not. Maps are in the order of their keys.
pub(super) fn to_json(value: &Value) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(truth) => Json::Bool(*truth),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => Json::Number(Number::from_f64(*number)?),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => bytes_to_json(bytes),
        Value::List(list) => Json::Array(list.iter().map(to_json).collect::<Option<_>>()?),
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                let key = match key {
                    Key::String(text) => text.as_str().to_owned(),
                    Key::Int(number) => number.to_string(),
                    Key::Uint(number) => number.to_string(),
                    Key::Bool(truth) => truth.to_string(),
                };
                entries.push((key, to_json(value)?));
            }
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Json::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => return None,
    })
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Int(_) | Value::UInt(_) => "an integer",
        Value::Float(_) => "a decimal number",
        Value::String(_) => "a text",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Function(..) | Value::Opaque(_) | Value::Struct(_) => "something else",
    }
}
