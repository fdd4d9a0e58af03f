//! What is done with a text that people write. Nothing here may panic, whatever it is.

use transload_envelope::{Envelope, Origin, Timestamp};
use transload_routing::{
    Captures, Expression, Facts, Pattern, Predicate, Scope, SyntaxError, Template,
};

/// A pattern, and the text as an address.
pub fn pattern(text: &str) {
    match Pattern::parse(text) {
        Ok(pattern) => {
            assert_eq!(Pattern::parse(pattern.as_str()), Ok(pattern.clone()));
            assert!(pattern.covers(&pattern) && pattern.overlaps(&pattern));
            let _ = pattern.matches(text);
            let _ =
                Pattern::parse_filter(&pattern.to_filter()).map(|filter| filter.covers(&pattern));
        }
        Err(error) => inside(text, &error),
    }
}

/// A template, filled in for a message.
pub fn template(text: &str) {
    match Template::parse(text) {
        Ok(template) => {
            for reference in template.names() {
                assert!(text.get(reference.range()).is_some());
            }
            for embedded in template.expressions() {
                assert!(text.get(embedded.range()).is_some());
            }
            within(|scope| {
                let _ = template.render_text(scope, &mut String::new());
            });
        }
        Err(error) => inside(text, &error),
    }
}

/// An expression, evaluated for a message.
pub fn expression(text: &str) {
    match Expression::compile(text) {
        Ok(expression) => {
            for (_, range) in expression.captures() {
                assert!(text.get(range).is_some());
            }
            within(|scope| {
                let _ = expression.evaluate(scope);
                let _ = expression.values(scope).to_string();
                if let Ok(predicate) = Predicate::compile(text) {
                    let _ = predicate.test(scope);
                }
            });
        }
        Err(error) => inside(text, &error),
    }
}

fn inside(text: &str, error: &SyntaxError) {
    assert!(text.get(error.range.clone()).is_some(), "{error:?}");
}

fn within(look: impl FnOnce(&Scope<'_>)) {
    const PAYLOAD: &str = r#"{"a": 1, "b": [1, "x", {"c": 2.5}], "t": "text", "n": null, "o": {}}"#;
    let origin = Origin::new("devices", "mqtt", "dev/d7/up").with("qos", 1_u64);
    let mut envelope = Envelope::new(origin, PAYLOAD);
    envelope.headers.push("X-Name", "value");
    let pattern = Pattern::parse("dev/{device}/{rest...}");
    let captures = pattern.as_ref().ok().and_then(|pattern| pattern.matches(&envelope.address));
    let captures: Captures<'_, '_> = captures.unwrap_or_default();
    let facts = Facts::new(&envelope).at(Timestamp { unix_ms: 1_700_000_000_000 });
    look(&Scope::new(&captures, &facts));
}
