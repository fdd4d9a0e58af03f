//! The functions that expressions can call, and what we add to those of the library.

use std::sync::{Arc, LazyLock};

use cel::{
    Env, ExecutionError, OverloadError,
    common::{
        types::{self, CelDouble, CelInt, CelUInt},
        value::{CowVal, Val},
    },
    extensions,
};

/// Called as `size(x)`.
pub(super) const GLOBAL: &[&str] =
    &["size", "string", "int", "uint", "double", "bool", "bytes", "type", "dyn", "matches"];

/// Called as `x.trim()`.
pub(super) const MEMBERS: &[&str] = &[
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "indexOf",
    "lastIndexOf",
    "join",
    "replace",
    "split",
    "substring",
    "charAt",
    "lowerAscii",
    "upperAscii",
    "trim",
    "reverse",
    "slice",
    "flatten",
    "distinct",
    "sort",
];

/// Called as `math.abs(x)`. Not here: what makes a large value out of a small one.
pub(super) const QUALIFIED: &[&str] = &[
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.trunc",
    "math.sign",
    "math.sqrt",
    "math.isInf",
    "math.isNaN",
    "math.isFinite",
    "math.bitAnd",
    "math.bitOr",
    "math.bitXor",
    "math.bitNot",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "base64.encode",
    "base64.decode",
];

/// Expanded when an expression is parsed, so that they are seldom seen behind it.
pub(super) const MACROS: &[&str] =
    &["has", "all", "exists", "exists_one", "existsOne", "map", "filter"];

/// The names of types, which `type(x)` is compared with.
pub(super) const TYPES: &[&str] =
    &["bool", "bytes", "double", "int", "list", "map", "null_type", "string", "uint", "type"];

/// An operator of the language, and the function of ours that stands in for it.
///
/// The language keeps integers and decimals apart, and JSON does not: 20 and 20.5 are both what a
/// sensor calls a temperature. Our functions calculate with both.
pub(super) const ARITHMETIC: &[(&str, &str)] = &[
    ("_+_", "@add"),
    ("_-_", "@subtract"),
    ("_*_", "@multiply"),
    ("_/_", "@divide"),
    ("_%_", "@modulo"),
];

/// What all expressions are evaluated in.
pub(super) static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(environment()));

#[expect(clippy::expect_used, reason = "what is declared here does not depend on any input")]
fn environment() -> Env {
    let mut env = Env::stdlib();
    let declared = extensions::strings(&mut env)
        .and_then(|()| extensions::lists(&mut env))
        .and_then(|()| extensions::math(&mut env))
        .and_then(|()| extensions::encoders(&mut env))
        .and_then(|()| add_ours(&mut env));
    declared.expect("the functions have different names");
    env
}

fn add_ours(env: &mut Env) -> Result<(), cel::DeclarationError> {
    let operators: [(&str, cel::common::functions::Function); 5] = [
        ("@add", add),
        ("@subtract", subtract),
        ("@multiply", multiply),
        ("@divide", divide),
        ("@modulo", modulo),
    ];
    for (name, function) in operators {
        env.add_overload(name, name, vec![types::DYN_TYPE, types::DYN_TYPE], function)?;
    }
    for name in ["math.ceil", "math.floor", "math.round", "math.trunc"] {
        env.add_overload(name, "@of_int", vec![types::INT_TYPE], itself)?;
        env.add_overload(name, "@of_uint", vec![types::UINT_TYPE], itself)?;
    }
    Ok(())
}

type Computed<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

fn itself<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Computed<'b, 'v> {
    arguments.into_iter().next().ok_or(ExecutionError::MissingArgumentOrTarget)
}

/// Both numbers as decimals, if exactly one of them is.
fn mixed(left: &dyn Val, right: &dyn Val) -> Option<(CelDouble, CelDouble)> {
    let decimal = |value: &dyn Val| value.downcast_ref::<CelDouble>().map(|number| *number.inner());
    #[expect(clippy::cast_precision_loss, reason = "as the language itself converts a number")]
    let whole = |value: &dyn Val| {
        let signed = value.downcast_ref::<CelInt>().map(|number| *number.inner() as f64);
        signed.or_else(|| value.downcast_ref::<CelUInt>().map(|number| *number.inner() as f64))
    };
    let (left, right) = match (decimal(left), decimal(right)) {
        (Some(left), None) => (left, whole(right)?),
        (None, Some(right)) => (whole(left)?, right),
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some((left.into(), right.into()))
}

macro_rules! operator {
    ($name:ident, $sign:literal, $accessor:ident, $method:ident, $decimal:expr) => {
        fn $name<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Computed<'b, 'v> {
            let [left, right] = arguments.as_slice() else {
                return Err(ExecutionError::MissingArgumentOrTarget);
            };
            if let Some((left, right)) = mixed(left.as_ref(), right.as_ref()) {
                let calculate: fn(f64, f64) -> f64 = $decimal;
                return Ok(CowVal::owned(CelDouble::from(calculate(
                    *left.inner(),
                    *right.inner(),
                ))));
            }
            let unfit = || no_overload($sign, left.as_ref(), right.as_ref());
            let able = left.as_ref().$accessor().ok_or_else(unfit)?;
            match able.$method(right.as_ref()) {
                Ok(value) => Ok(CowVal::Owned(value.into_owned())),
                Err(ExecutionError::UnsupportedBinaryOperator(..)) => Err(unfit()),
                Err(error) => Err(error),
            }
        }
    };
}

operator!(add, "_+_", as_adder, add, |left, right| left + right);
operator!(subtract, "_-_", as_subtractor, sub, |left, right| left - right);
operator!(multiply, "_*_", as_multiplier, mul, |left, right| left * right);
operator!(divide, "_/_", as_divider, div, |left, right| left / right);
operator!(modulo, "_%_", as_modder, modulo, |left, right| left % right);

fn no_overload(operator: &str, left: &dyn Val, right: &dyn Val) -> ExecutionError {
    let names = [left, right].map(|value| value.get_type().name().to_owned());
    ExecutionError::no_such_overload(operator, names.to_vec())
}

/// What a missing overload says to people, and whether a null is to blame.
pub(super) fn explain_overload(error: &OverloadError) -> (String, bool) {
    let types: Vec<&str> = error.argument_types().iter().map(|name| name_of(name)).collect();
    let name = error.function();
    let sign = match name {
        "@in" => "in",
        _ => name.trim_matches('_'),
    };
    let message = match types.as_slice() {
        [left, right] if name.starts_with('_') || name == "@in" => {
            format!("`{sign}` cannot be used between {left} and {right}")
        }
        _ => format!("`{sign}` cannot be used with {}", types.join(" and ")),
    };
    (message, error.argument_types().iter().any(|name| name == "null_type"))
}

/// What people call a type.
pub(super) fn name_of(name: &str) -> &str {
    match name {
        "string" => "a text",
        "int" | "uint" => "an integer",
        "double" => "a decimal number",
        "bool" => "a truth value",
        "null_type" => "null",
        "list" => "a list",
        "map" => "a map",
        "bytes" => "bytes",
        other => other,
    }
}
