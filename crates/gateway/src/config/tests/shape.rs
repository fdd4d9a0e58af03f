use super::{ADAPTERS, check, findings};

/// The findings of a route with this shape, which stands in line 10.
fn shape(text: &str) -> Vec<String> {
    findings(&check(&format!(
        "{ADAPTERS}[[route]]\nname = \"r\"\nmatch = \"a/{{x}}\"\n{text}\nto = \"door\"\n"
    )))
}

#[test]
fn sound_shapes_have_no_findings() {
    for text in [
        "shape = {}",
        "shape = []",
        "shape = { decode = \"gzip\", encode = [\"json\", \"base64\"] }",
        "shape = { set.payload.a = 1, set.payload.b.c = [\"{x}\", { d = 1.5 }], set.address = \"b\" }",
        "shape = { set = { \"payload.a\" = 1, \"header.x-a\" = true, property = { retain = true } } }",
        "shape = { set.property.expires = \"5m\", set.property.priority = \"{header.p|3}\" }",
        "shape = { remove = [\"payload.a\", \"header.x-*\", \"property.kind\"] }",
        "shape = { rename.payload.a = \"payload.b.c\", rename.header.a = \"header.b\" }",
        "shape = [{ unwrap = \"cloudevents\" }, { wrap = { as = \"cloudevents-binary\", type = \"{x}\" } }]",
        "shape = { split = { at = \"payload.a\", max = 10000 }, payload = \"{x}\" }",
        "shape = { validate = { type = \"object\", properties = { a = { maximum = 0x10 } } } }",
    ] {
        assert_eq!(shape(text), [""; 0], "{text}");
    }
}

fn faults(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(shape(text), [*expected], "{text}");
    }
}

#[test]
fn faults_in_steps_have_their_place() {
    faults(&[
        (
            "shape = 5",
            "10:9 expected a table of steps, found integer -> write `shape = { \
             set.payload.site = \"north\" }`, or an array of such tables",
        ),
        ("shape = { sett.payload.a = 1 }", "10:11 unknown step `sett` -> did you mean `set`?"),
        ("shape = { decode = \"zip\" }", "10:20 unknown value `zip` -> did you mean `gzip`?"),
        (
            "shape = { encode = [\"json\", 5] }",
            "10:29 expected a string or an array of strings, found integer",
        ),
    ]);
}

#[test]
fn faults_in_values_have_their_place() {
    faults(&[
        (
            "shape = { set.payload.a = \"é{y}\" }",
            "10:30 the pattern of this route does not capture `y` -> did you mean `x`?",
        ),
        (
            "shape = { set.payload.a = [1, { b = \"{\" }] }",
            "10:38 this `{` is not closed -> write `{name}` for a value, and `{{` for the \
             character itself",
        ),
        (
            "shape = { set.paylod.a = 1 }",
            "10:15 `paylod` is no part of a message -> did you mean `payload`?",
        ),
        (
            "shape = { set.payload = 1 }",
            "10:25 `set` puts values into the payload and does not replace it -> write `payload = \
             …` beside `set` for a whole new payload, and `set.payload.NAME = …` for a part of it",
        ),
        (
            "shape = { set.property.colour = 1 }",
            "10:24 there is no property `colour` -> the properties are: `content_type`, \
             `content_encoding`, `correlation`, `reply_to`, `expires_at`, `priority`, `durable`, \
             `retain`, `kind`, `app_id`, `user_id`, `timestamp`, `expires`",
        ),
        (
            "shape = { set.property.priority = 256 }",
            "10:35 property.priority: expected 0 to 255, found 256",
        ),
        ("shape = { set.address = \"\" }", "10:25 address: an address cannot be empty"),
        (
            "shape = { set.property.expires = 5 }",
            "10:34 expected a duration such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\", \
             found integer",
        ),
        (
            "shape = { remove = \"payload.a..b\" }",
            "10:31 a name is missing here -> write a name of no characters, or one with dots, in \
             quotes",
        ),
        (
            "shape = { remove = \"address\" }",
            "10:20 every message has an address, it cannot be removed",
        ),
        (
            "shape = { rename.payload.a = \"header.b\" }",
            "10:30 `payload.a` cannot be renamed to `header.b` -> a member of the payload can \
             become another member, and a header another header; for the rest use `set` and \
             `remove`",
        ),
    ]);
}

#[test]
fn faults_in_the_settings_of_steps_have_their_place() {
    faults(&[
        (
            "shape = { split = \"header.a\" }",
            "10:19 only the payload can be split -> write `split = \"payload\"` or `split = \
             \"payload.items\"`",
        ),
        (
            "shape = { split = { at = \"payload\", max = 0 } }",
            "10:43 expected an integer between 1 and 10000, found integer",
        ),
        (
            "shape = { wrap = \"cloudevent\" }",
            "10:18 unknown value `cloudevent` -> did you mean `cloudevents`?",
        ),
        (
            "shape = { wrap = { my-type = \"x\" } }",
            "10:20 `my-type` cannot be set as an attribute of an event -> names of attributes are \
             lower-case letters and digits",
        ),
        (
            "shape = { validate = { type = \"nubmer\" } }",
            "10:22 its schema is no JSON Schema, at /type: \"nubmer\" is not valid under any of \
             the schemas listed in the 'anyOf' keyword",
        ),
        (
            "shape = { validate = \"missing.json\" }",
            "10:22 cannot read `missing.json`: No such file or directory (os error 2)",
        ),
    ]);
}

#[test]
fn a_schema_file_is_read_beside_the_file_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("good.json", "{ \"type\": \"object\" }");
    write("bad.json", "{ \"type\":\n  oops }");
    for (schema, expected) in [
        ("good.json", &[][..]),
        ("bad.json", &["10:22 `bad.json` is no JSON, at line 2, column 3: expected value"][..]),
    ] {
        let text = format!(
            "{ADAPTERS}[[route]]\nname = \"r\"\nmatch = \"a\"\n\
             shape = {{ validate = \"{schema}\" }}\nto = \"door\"\n"
        );
        write("adapters.toml", &text);
        let path = folder.path().join("adapters.toml");
        let loaded = crate::config::load(&path, &super::environment, &super::registry());
        assert_eq!(findings(&loaded), expected);
    }
}
