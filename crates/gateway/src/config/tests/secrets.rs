use std::fs;

use serde_json::json;

use super::{check, environment, findings, registry};
use crate::config::load;

/// All that a person may see of what was read.
fn shown(text: &str) -> String {
    let loaded = check(text);
    format!("{}{}", loaded.report.render(false), loaded.report.to_json())
}

#[test]
fn values_from_the_environment_are_not_shown() {
    for line in [
        "url = \"${HOST}\"",
        "url = \"x${HOST}x\"",
        "url = \"broker://h\"\ntimeout = \"${HOST}\"",
        "url = \"broker://h\"\nconsume = \"${HOST}\"",
        "url = \"broker://h\"\ncareless = \"${HOST}\"",
    ] {
        let text = shown(&format!("[adapters.b]\nkind = \"broker\"\n{line}\n"));
        assert!(text.contains("error: "), "{text}");
        assert!(!text.contains("hidden-host"), "{text}");
    }
    let found = findings(&check("[adapters.b]\nkind = \"broker\"\nurl = \"${HOST}\"\n"));
    assert_eq!(found, ["3:7 `${HOST}` does not start with `broker://`"]);
    let found = findings(&check(
        "[adapters.b]\nkind = \"broker\"\nurl = \"broker://h\"\ncareless = \"${NUMBER}\"\n",
    ));
    assert_eq!(found, ["4:12 expected `true` or `false`"]);
}

#[test]
fn passwords_in_the_file_are_not_shown() {
    for line in [
        "url = \"broker://h\"\npassword = \"Passw0rd\"\nx = 1",
        "url = \"broker://h\"\npassword = \"Passw0rd\" x",
        "url = \"broker://h\"\npasword = \"Passw0rd\"",
        "url = \"broker://h\"\ntoken = \"Passw0rd\"",
        "url = \"http://user:Passw0rd@host\"",
        "url = \"http://Passw0rd@host\"",
        "url = \"broker://h\"\npassword = [\"Passw0rd\"]",
        "url = \"user:Passw0rd@host\"",
        "url = \"broker://h\"\npassword = \"Passw0rd\"\npassword = \"Passw0rd\"",
        "url = \"broker://h\"\nlogins = \"Passw0rd\"",
        "url = \"broker://h\"\nlogins = [\"Passw0rd\"]",
        "url = \"broker://h\"\nlogins = [{ word = \"Passw0rd\", x = 1 }]",
        "url = \"broker://h\"\nfields = { \"x\" = \"Passw0rd\", y = 1 }",
    ] {
        let text = shown(&format!("[adapters.b]\nkind = \"broker\"\n{line}\n"));
        assert!(text.contains("error: "), "{text}");
        assert!(!text.contains("Passw0rd"), "{text}");
    }
}

#[test]
fn a_shape_is_shown_without_its_secrets() {
    let loaded = check(
        "[adapters.a]\nkind = \"broker\"\nurl = \"broker://h\"\n\
         [adapters.b]\nkind = \"broker\"\nurl = \"broker://h\"\n\
         [[route]]\nname = \"r\"\nfrom = \"a\"\nmatch = \"#\"\n\
         shape = { set.header = { site = \"north\", token = \"Passw0rd\", host = \"${HOST}\" } }\n\
         to = { adapter = \"b\", exchange = \"x\", shape = [{ set.header.n = \"1\" }] }\n",
    );
    assert_eq!(findings(&loaded), [""; 0]);
    let shown = crate::config::shown(&loaded.configuration.unwrap()).to_map();
    let route = &shown["routes"][0];
    let headers = json!({ "site": "north", "token": "***", "host": "***" });
    assert_eq!(route["shape"], json!({ "set": { "header": headers } }));
    assert_eq!(route["to"][0]["shape"], json!([{ "set": { "header": { "n": "1" } } }]));
}

#[test]
fn a_secret_can_be_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.toml");
    let start = "[adapters.b]\nkind = \"broker\"\n";
    let try_with = |lines: &str| {
        fs::write(&path, format!("{start}{lines}\n")).unwrap();
        load(&path, &environment, &registry())
    };
    fs::write(folder.path().join("word"), "s3cret-s3cret\n").unwrap();
    fs::write(folder.path().join("address"), "broker://u:s3cret-s3cret@h\r\n").unwrap();

    let loaded = try_with("url = \"broker://h\"\npassword_file = \"word\"");
    assert_eq!(findings(&loaded), [""; 0]);
    let loaded = try_with("url_file = \"address\"");
    assert_eq!(findings(&loaded), [""; 0]);
    let prepared = &loaded.configuration.unwrap().adapters[0].prepared;
    assert_eq!(prepared.describe(), "broker://u:s3cret-s3cret@h");

    let loaded = try_with("url_file = \"word\"");
    assert_eq!(findings(&loaded), ["3:12 `***` does not start with `broker://`"]);
    let loaded = try_with("url = \"broker://h\"\npassword_file = \"nowhere\"");
    assert_eq!(findings(&loaded).len(), 1);
    assert!(findings(&loaded)[0].starts_with("4:17 cannot read `"), "{:?}", findings(&loaded));
    let loaded = try_with("url = \"broker://h\"\npassword = \"x\"\npassword_file = \"word\"");
    assert_eq!(findings(&loaded), ["5:1 both `password` and `password_file` are given"]);
    let loaded = try_with("url = \"broker://h\"\ntimeout_fil = \"word\"");
    assert_eq!(findings(&loaded), ["4:1 unknown key `timeout_fil` -> did you mean `timeout`?"]);
}
