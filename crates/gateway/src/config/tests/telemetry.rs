use std::fs;

use super::{ADAPTERS, check, environment, findings, registry};
use crate::config::{TelemetrySettings, load};

/// What is found in a table `[telemetry]` with these lines.
fn found(lines: &str) -> Vec<String> {
    findings(&check(&format!("[telemetry]\n{lines}\n{ADAPTERS}")))
}

fn settings(lines: &str) -> TelemetrySettings {
    let loaded = check(&format!("[telemetry]\n{lines}\n{ADAPTERS}"));
    assert_eq!(findings(&loaded), [""; 0]);
    loaded.configuration.unwrap().gateway.telemetry.unwrap()
}

#[test]
fn there_is_no_collector_unless_one_is_named() {
    assert_eq!(check(ADAPTERS).configuration.unwrap().gateway.telemetry, None);
    assert_eq!(found("sample_ratio = 0.5").len(), 1, "the endpoint is missing");
    let plain = settings("endpoint = \"http://127.0.0.1:4318/\"");
    let endpoint = "http://127.0.0.1:4318".to_owned();
    assert_eq!(plain, TelemetrySettings { endpoint, ..TelemetrySettings::default() });
}

#[test]
fn endpoints_are_bases_of_http_urls() {
    for sound in ["https://otlp.example.org/base", "http://[::1]:4318"] {
        assert_eq!(settings(&format!("endpoint = {sound:?}")).endpoint, sound);
    }
    let cure = "write it as `http://HOST:4318`";
    for (unsound, message, help) in [
        ("", "this is not a URL", cure),
        ("/v1", "this is not a URL with a host", cure),
        ("127.0.0.1:4318", "the URL must begin with `http://` or `https://`", cure),
        ("grpc://host:4317", "the URL must begin with `http://` or `https://`", cure),
        ("http://host/?key=1", "the URL holds more than a path", cure),
        ("http://host:4318/v1/traces", "`/v1/traces` is added to the URL", "leave it out"),
    ] {
        let expected = format!("2:12 {message} -> {help}");
        assert_eq!(found(&format!("endpoint = {unsound:?}")), [expected], "{unsound}");
    }
    let credentials = found("endpoint = \"http://user:secret@host\"");
    assert!(credentials[0].contains("holds credentials"), "{credentials:?}");
}

#[test]
fn numbers_have_their_bounds() {
    let endpoint = "endpoint = \"http://h\"";
    for (line, expected) in [
        (
            "sample_ratio = 1.5",
            "3:16 expected a number from 0.0 to 1.0 -> 0.1 samples one trace in ten",
        ),
        (
            "sample_ratio = nan",
            "3:16 expected a number from 0.0 to 1.0 -> 0.1 samples one trace in ten",
        ),
        ("timeout = \"0s\"", "3:11 no request can be done in no time"),
        ("max_queue_spans = 100001", "3:19 expected at most 100000"),
    ] {
        assert_eq!(found(&format!("{endpoint}\n{line}")), [expected]);
    }
    let all = settings(&format!(
        "{endpoint}\nsample_ratio = 0\nmax_queue_spans = 3\ninterval = \"2s\"\nservice_name = \"x\""
    ));
    assert_eq!((all.queue_spans_max, all.interval.as_secs(), &*all.service_name), (3, 2, "x"));
    assert!(all.sample_ratio.abs() < f64::EPSILON);
}

#[test]
fn header_fields_come_from_the_environment_and_from_files_and_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.toml");
    fs::write(folder.path().join("key"), "s3cret-s3cret\n").unwrap();
    let try_with = |headers: &str, files: &str| {
        let table = format!(
            "[telemetry]\nendpoint = \"http://h\"\nheaders = {{ {headers} }}\nheader_files = {{ {files} }}\n"
        );
        fs::write(&path, table + ADAPTERS).unwrap();
        load(&path, &environment, &registry())
    };
    let loaded = try_with("X-Team = \"${PASS}\"", "x-key = \"key\"");
    assert_eq!(findings(&loaded), [""; 0]);
    let headers = loaded.configuration.unwrap().gateway.telemetry.unwrap().headers;
    let read: Vec<_> = headers.iter().map(|(name, value)| (&**name, value.expose())).collect();
    assert_eq!(read, [("x-team", "hunter2hunter2"), ("x-key", "s3cret-s3cret")]);

    for (headers, files, message) in [
        ("\"a b\" = \"My0wnText\"", "", "this is no name of a header field"),
        ("a = \"My0wnText\\n\"", "", "the value cannot stand in a header field"),
        ("x-key = \"My0wnText\"", "X-Key = \"key\"", "this header field is given twice"),
        ("", "x-key = \"nowhere\"", "cannot read"),
    ] {
        let loaded = try_with(headers, files);
        let shown = loaded.report.render(false);
        assert!(loaded.configuration.is_none() && shown.contains(message), "{shown}");
        assert!(!shown.contains("My0wnText") && !shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn only_the_main_file_names_a_collector() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.toml");
    fs::write(&path, format!("include = [\"more.toml\"]\n{ADAPTERS}")).unwrap();
    fs::write(folder.path().join("more.toml"), "[telemetry]\nendpoint = \"http://h\"\n").unwrap();
    let found = findings(&load(&path, &environment, &registry()));
    assert!(found[0].contains("`telemetry` cannot stand in an included file"), "{found:?}");
}
