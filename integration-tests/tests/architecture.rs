//! The dependency direction of `docs/ARCHITECTURE.md`, held over `cargo metadata`.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// The crates of the workspace, and those of them that each may depend on.
const MAY_DEPEND_ON: [(&str, &[&str]); 12] = [
    ("envelope", &[]),
    ("routing", &["envelope"]),
    ("adapter", &["envelope"]),
    ("tls", &["adapter"]),
    ("listen", &["adapter", "tls"]),
    ("delivery", &["adapter", "envelope"]),
    ("gateway", &["adapter", "delivery", "envelope", "listen", "routing"]),
    ("adapter-amqp", &["adapter", "envelope", "tls"]),
    ("adapter-nats", &["adapter", "envelope", "tls"]),
    ("adapter-http", &["adapter", "envelope", "listen", "routing", "tls"]),
    ("adapter-mqtt", &["adapter", "envelope", "listen", "routing", "tls"]),
    (
        "cli",
        &["adapter", "adapter-amqp", "adapter-http", "adapter-mqtt", "adapter-nats", "gateway"],
    ),
];

/// The client libraries, and the only crates that may name them.
const NAMED_ONLY_IN: [(&str, &[&str]); 4] = [
    ("amq-protocol", &["adapter-amqp"]),
    ("rumqttc", &["adapter-mqtt"]),
    ("nkeys", &["adapter-nats"]),
    ("rumqttd", &["integration-tests"]),
];

/// What does I/O or runs tasks, and so has no place in the pure crates.
const NOT_IN_PURE_CRATES: [&str; 7] =
    ["tokio", "tokio-util", "futures-util", "hyper", "axum", "reqwest", "tracing"];
const PURE_CRATES: [&str; 2] = ["envelope", "routing"];

/// TLS is rustls with ring: a second provider in one process panics at the first handshake.
const NOT_IN_THE_TREE: [&str; 5] =
    ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

struct Dependency {
    name: String,
    is_dev: bool,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The packages of the workspace without the prefix of their names, and what they depend on.
fn packages() -> BTreeMap<String, Vec<Dependency>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let package = |package: &Value| {
        let name = package["name"].as_str().unwrap();
        let name = name.strip_prefix("transload-").unwrap_or_else(|| panic!("{name}: no prefix"));
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.map(|dependency| Dependency {
            name: dependency["name"].as_str().unwrap().to_owned(),
            is_dev: dependency["kind"] == "dev",
        });
        (name.to_owned(), dependencies.collect())
    };
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

#[test]
fn crates_depend_only_downwards() {
    let packages = packages();
    let known: Vec<_> = MAY_DEPEND_ON.iter().map(|(name, _)| *name).collect();
    for name in packages.keys().filter(|name| *name != "integration-tests") {
        assert!(known.contains(&name.as_str()), "{name} is new: say here what it may depend on");
    }
    for (name, allowed) in MAY_DEPEND_ON {
        let dependencies = packages.get(name).unwrap_or_else(|| panic!("there is no crate {name}"));
        for dependency in dependencies.iter().filter(|dependency| !dependency.is_dev) {
            let Some(other) = dependency.name.strip_prefix("transload-") else { continue };
            assert!(allowed.contains(&other), "{name} must not depend on {other}");
        }
    }
}

/// Not even the tests of the gateway know a protocol.
#[test]
fn the_gateway_knows_no_protocol() {
    for dependency in &packages()["gateway"] {
        assert!(!dependency.name.starts_with("transload-adapter-"), "{}", dependency.name);
    }
}

#[test]
fn client_libraries_are_named_only_by_their_adapters() {
    for (name, dependencies) in packages() {
        for dependency in &dependencies {
            let Some((library, owners)) =
                NAMED_ONLY_IN.iter().find(|(library, _)| *library == dependency.name)
            else {
                continue;
            };
            let is_a_foreign_client_of_the_tests = name == "integration-tests" && dependency.is_dev;
            assert!(
                owners.contains(&name.as_str()) || is_a_foreign_client_of_the_tests,
                "{name} must not depend on {library}"
            );
        }
    }
}

#[test]
fn pure_crates_do_no_input_or_output() {
    let packages = packages();
    for name in PURE_CRATES {
        for dependency in packages[name].iter().filter(|dependency| !dependency.is_dev) {
            let impure = NOT_IN_PURE_CRATES.contains(&dependency.name.as_str());
            assert!(!impure, "{name} must not depend on {}", dependency.name);
        }
    }
}

#[test]
fn one_tls_library_is_in_the_tree() {
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for library in NOT_IN_THE_TREE {
        assert!(!lock.contains(&format!("name = \"{library}\"\n")), "{library} is in Cargo.lock");
    }
}
