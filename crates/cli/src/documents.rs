//! The documents and the default file, held against the program.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;
use transload_gateway::{
    config::{Loaded, load, load_text, load_with_tests, schema},
    run_tests,
};
use transload_tls::testing::Authority;

use crate::{adapters::registry, environment};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn unset(_: &str) -> Option<String> {
    None
}

fn assert_sound(what: &str, loaded: &Loaded) {
    assert!(loaded.report.findings.is_empty(), "{what}:\n{}", loaded.report.render(false));
    assert!(loaded.configuration.is_some(), "{what}");
}

/// Runs the tests in a file; tells how many there are.
fn assert_passes(what: &str, loaded: &Loaded) -> u64 {
    let outcome = run_tests(loaded.configuration.as_ref().unwrap(), "");
    assert_eq!(outcome["failed"], 0, "{what}: {outcome:#}");
    outcome["passed"].as_u64().unwrap()
}

/// The rules file of each use case in the README is sound, and does what its tests say.
#[test]
fn the_use_cases_are_sound_and_tested() {
    let mut seen = 0;
    for entry in fs::read_dir(repository().join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let what = path.display().to_string();
        let loaded = load_with_tests(&path, &unset, &registry());
        assert_sound(&what, &loaded);
        assert!(assert_passes(&what, &loaded) > 0, "{what} has no test");
        seen += 1;
    }
    assert!(seen >= 5, "{seen} files");
}

#[test]
fn the_default_file_is_sound() {
    let path = repository().join("adapters.toml");
    let loaded = load_with_tests(&path, &unset, &registry());
    assert_sound("adapters.toml", &loaded);
    assert!(assert_passes("adapters.toml", &loaded) >= 4);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().next().unwrap().contains("schema"), "the first line names the schema");
}

#[test]
fn the_default_file_has_the_flows_that_the_readme_promises() {
    let loaded = load(&repository().join("adapters.toml"), &unset, &registry());
    let configuration = loaded.configuration.unwrap();
    let takes = |from: &str, address: &str| -> Vec<String> {
        let number = configuration.adapters.iter().position(|adapter| &*adapter.name == from);
        let routes = configuration.routes.iter().filter(|route| {
            route.from.contains(&number.unwrap())
                && route.patterns.iter().any(|pattern| pattern.matches(address).is_some())
        });
        let targets = routes.flat_map(|route| &route.to);
        targets.map(|target| configuration.adapters[target.adapter].name.to_string()).collect()
    };
    let hooks = takes("web", "hooks/github/push");
    for target in ["devices", "services", "events"] {
        assert!(hooks.iter().any(|name| name == target), "{hooks:?}");
    }
    assert_eq!(takes("devices", "devices/d1/telemetry"), ["services", "events", "web"]);
    assert_eq!(takes("services", "commands/d1"), ["devices"]);
    assert_eq!(takes("events", "commands/d1"), ["devices"]);
    assert_eq!(takes("devices", "commands/d1"), [""; 0], "no loop");
}

/// The keys of the default file, as far as it is put together of tables, are all in the schema.
#[test]
fn the_schema_knows_every_key_of_the_default_file() {
    let text = fs::read_to_string(repository().join("adapters.toml")).unwrap();
    let root: toml::Table = toml::from_str(&text).unwrap();
    let schema = schema(&registry()).to_string();
    let mut keys = Vec::new();
    for (section, value) in &root {
        keys.push(section.clone());
        match (section.as_str(), value) {
            ("adapters", toml::Value::Table(adapters)) => {
                adapters.values().for_each(|adapter| collect_keys(adapter, &mut keys));
            }
            (_, value) => collect_keys(value, &mut keys),
        }
    }
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        assert!(schema.contains(&format!("\"{key}\":")), "{key}");
    }
}

fn collect_keys(value: &toml::Value, into: &mut Vec<String>) {
    if let Some(table) = value.as_table() {
        for (key, value) in table {
            into.push(key.clone());
            // What is in a message is up to whoever sends it.
            if !["json", "headers", "attributes"].contains(&key.as_str()) {
                collect_keys(value, into);
            }
        }
    }
    for value in value.as_array().into_iter().flatten() {
        collect_keys(value, into);
    }
}

/// The adapters that examples name without showing them.
const FRAME: [(&str, &str); 4] = [
    ("devices", "kind = \"mqtt\"\nlisten = \"127.0.0.1:1883\"\n"),
    ("web", "kind = \"http\"\nlisten = \"127.0.0.1:8080\"\n"),
    ("services", "kind = \"amqp\"\nurl = \"amqp://127.0.0.1\"\n"),
    ("events", "kind = \"nats\"\nurl = \"nats://127.0.0.1\"\n"),
];

/// Every example in the documents is a file that can be checked, or part of one: what it does not
/// show is added to it.
#[test]
fn every_example_in_the_documents_is_sound() {
    let mut examples = 0;
    let files = ["README.md", "docs/CONFIGURATION.md", "docs/RULES.md", "docs/TESTING-RULES.md"];
    for file in files {
        // The README is not there yet when this is built from a part of the repository.
        let Ok(text) = fs::read_to_string(repository().join(file)) else { continue };
        for (line, example) in toml_examples(&text) {
            let folder = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
            fs::create_dir(folder.path().join("routes")).unwrap();
            write("routes/sample.toml", "[[route]]\nname = \"sample\"\nto = \"devices\"\n");
            // Files that an adapter reads itself are relative to the working directory.
            let users = folder.path().join("users");
            write("users", "");
            let example = example.replace("\"users\"", &format!("{users:?}"));
            for name in ["password", "github-secret", "ci-token", "ann-password"] {
                write(name, "secret-of-the-example\n");
            }
            let authority = Authority::new("root");
            let web = authority.sign("web", &["localhost"]);
            for (name, text) in [
                ("web.pem", &*web.certificate),
                ("web.key", &web.key),
                ("clients.pem", authority.pem()),
            ] {
                write(name, text);
            }
            let example = example.replace("/etc/transload", &folder.path().display().to_string());
            write("adapters.toml", &whole_file(&example));
            let known =
                ["AMQP_PASSWORD", "DASHBOARD_PASSWORD", "ERP_CLIENT_SECRET", "STRIPE_SECRET"];
            let variables = |name: &str| known.contains(&name).then(|| "a-value".to_owned());
            let path = folder.path().join("adapters.toml");
            let loaded = load(&path, &variables, &registry());
            assert_sound(&format!("{file}, line {line}"), &loaded);
            assert_passes(&format!("{file}, line {line}"), &loaded);
            examples += 1;
        }
    }
    assert!(examples >= 8, "{examples} examples");
}

/// The example with those adapters behind it that it does not define itself.
fn whole_file(example: &str) -> String {
    let mut text = example.to_owned();
    for (name, settings) in FRAME {
        if !example.contains(&format!("[adapters.{name}]")) {
            let _ = write!(text, "[adapters.{name}]\n{settings}");
        }
    }
    text
}

/// The blocks of TOML in a document, with the line where each begins.
fn toml_examples(text: &str) -> Vec<(usize, String)> {
    let mut examples = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == "```toml" {
            let block: Vec<_> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            examples.push((number + 1, format!("{}\n", block.join("\n"))));
        }
    }
    examples
}

/// Each bound on the page on security has a test, and the tests that it names are there.
#[test]
fn the_tests_that_the_page_on_security_names_exist() {
    let page = fs::read_to_string(repository().join("docs/SECURITY.md")).unwrap();
    let mut sources = String::new();
    for folder in ["crates", "integration-tests/tests"] {
        read_sources(&repository().join(folder), &mut sources);
    }
    let names = page.split('`').skip(1).step_by(2).filter(|name| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let metric = name.starts_with("transload_");
        !metric && name.matches('_').count() >= 3 && name.bytes().all(known)
    });
    let names: Vec<_> = names.filter(|name| !page.contains(&format!("`{name} = "))).collect();
    assert!(names.len() >= 20, "{names:?}");
    let known = ["max_connections_per_address", "insecure_without_authentication"];
    let other = |name: &&str| known.contains(name) || name.starts_with("transload_");
    for name in names.into_iter().filter(|name| !other(name)) {
        assert!(sources.contains(&format!("fn {name}(")), "no test is named {name}");
    }
}

fn read_sources(folder: &std::path::Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The tables of keys in `docs/CONFIGURATION.md` are made from the schema. With `UPDATE_DOCS=1` in
/// the environment, this test writes them.
#[test]
fn the_tables_of_keys_are_up_to_date() {
    let path = repository().join("docs/CONFIGURATION.md");
    let text = fs::read_to_string(&path).unwrap();
    let schema = schema(&registry());
    let mut updated = String::new();
    let mut rest = text.as_str();
    let mut tables = 0;
    while let Some((before, from)) = rest.split_once("<!-- keys: ") {
        let (name, from) = from.split_once(" -->\n").unwrap();
        let (_, after) = from.split_once("<!-- end -->").unwrap();
        let table = key_table(&schema, name);
        let _ = write!(updated, "{before}<!-- keys: {name} -->\n{table}<!-- end -->");
        rest = after;
        tables += 1;
    }
    updated.push_str(rest);
    if updated != text && environment("UPDATE_DOCS").is_some() {
        fs::write(&path, &updated).unwrap();
        return;
    }
    assert!(updated == text, "run `UPDATE_DOCS=1 cargo test -p transload-cli documents`");
    // The gateway, its collector, routes, and each role of each adapter with its targets.
    assert_eq!(tables, 3 + 2 * registry().kinds().count());
}

/// The keys of a table, such as `gateway`, `mqtt listen` or `to mqtt listen`.
fn key_table(schema: &Value, name: &str) -> String {
    let definitions = &schema["$defs"];
    let titled = |list: &Value, title: String| {
        let list = list.as_array().unwrap();
        list.iter()
            .find(|table| table["title"] == title)
            .unwrap_or_else(|| panic!("{name}"))
            .clone()
    };
    let words: Vec<_> = name.split(' ').collect();
    let table = match words.as_slice() {
        ["gateway"] => definitions["GatewayTable"].clone(),
        ["telemetry"] => definitions["TelemetryTable"].clone(),
        ["route"] => definitions["RouteTable"].clone(),
        ["to", kind, role] => {
            let title = format!("to {kind}, `{role}`");
            let mut table = titled(&definitions["TargetTable"]["anyOf"], title);
            // It is described with the route's own.
            table["properties"].as_object_mut().unwrap().remove("shape");
            table
        }
        [kind, role] => titled(&definitions["AdapterTable"]["oneOf"], format!("{kind}, `{role}`")),
        _ => panic!("no table is named {name}"),
    };
    let mut rows = Vec::new();
    key_rows(schema, &table, "", &mut rows);
    let mut text = "\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        text.push_str(&row);
    }
    text.push('\n');
    text
}

/// The keys that are described once, for all adapters and all targets.
const COMMON_KEYS: [&str; 6] =
    ["kind", "max_unsettled", "max_unsettled_bytes", "deduplicate", "unrouted", "adapter"];

fn key_rows(schema: &Value, table: &Value, prefix: &str, rows: &mut Vec<String>) {
    for part in parts(schema, table) {
        let Some(keys) = part["properties"].as_object() else { continue };
        let required: Vec<_> =
            part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (key, value) in keys {
            let shared = keys.contains_key("kind") || keys.contains_key("adapter");
            let common = shared && COMMON_KEYS.contains(&key.as_str());
            let spare =
                common || key == "to" || (key.ends_with("_file") && value.get("type").is_none());
            if prefix.is_empty() && (spare || is_made_up(keys, key)) {
                continue;
            }
            let default = value.get("default").map(|default| format!("`{default}`"));
            let is_required = required.contains(&key.as_str());
            let default = if is_required { Some("required".to_owned()) } else { default };
            let default = default.unwrap_or_default();
            let meaning = value["description"].as_str().map(str::to_owned).or_else(|| {
                let part = parts(schema, value)
                    .into_iter()
                    .find(|part| part["description"].is_string())?;
                part["description"].as_str().map(str::to_owned)
            });
            let meaning = meaning.unwrap_or_default().replace('\n', " ").replace('|', "\\|");
            let kind = kind_of(schema, value).replace('|', "\\|");
            rows.push(format!("| `{prefix}{key}` | {kind} | {default} | {meaning} |\n"));
            let list = value["type"] == "array" || value["items"].is_object();
            let inner = if list { &value["items"] } else { value };
            let dot = if list { "[]." } else { "." };
            key_rows(schema, inner, &format!("{prefix}{key}{dot}"), rows);
        }
    }
}

/// Whether the loader added this key to those that the adapter reads.
fn is_made_up(keys: &serde_json::Map<String, Value>, key: &str) -> bool {
    let secret = key.strip_suffix("_file").and_then(|name| keys.get(name));
    secret.is_some_and(|secret| secret["format"] == "password")
        && keys[key]["description"].as_str().is_some_and(|text| text.contains("instead of"))
}

/// A schema with its references followed, and its alternatives.
fn parts(schema: &Value, part: &Value) -> Vec<Value> {
    let mut all = vec![part.clone()];
    if let Some(name) = part["$ref"].as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
        all.extend(parts(schema, &schema["$defs"][name]));
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for alternative in part[choice].as_array().into_iter().flatten() {
            all.extend(parts(schema, alternative));
        }
    }
    all
}

/// What a value looks like, in a few words.
fn kind_of(schema: &Value, value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
        return match name {
            "Duration" => "duration".to_owned(),
            "ByteSize" => "size".to_owned(),
            _ => kind_of(schema, &schema["$defs"][name]),
        };
    }
    if let Some(constant) = value.get("const") {
        return format!("`{constant}`");
    }
    for choice in ["anyOf", "oneOf", "enum"] {
        let Some(list) = value[choice].as_array() else { continue };
        let mut kinds: Vec<_> = list
            .iter()
            .map(|one| if choice == "enum" { format!("`{one}`") } else { kind_of(schema, one) })
            .collect();
        kinds.dedup();
        return kinds.join(", ");
    }
    match value["type"].as_str() {
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("array") => format!("array of {}", kind_of(schema, &value["items"])),
        Some("object") => "table".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    }
}

#[test]
fn a_faulty_text_has_findings() {
    let loaded = load_text("x.toml", "[adapters.x]\nkind = \"mqtt\"\n", &unset, &registry());
    assert!(loaded.report.errors() > 0);
}
