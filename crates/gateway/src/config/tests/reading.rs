use std::{fmt::Write as _, fs, time::Duration};

use transload_adapter::{store::Storage, units::ByteSize};

use super::{ADAPTERS, check, environment, findings, registry};
use crate::config::{
    Configuration, Deduplicate, DeduplicateBy, Guarantee, WhenFull, load, overview, schema,
};

fn read(more: &str) -> Configuration {
    let loaded = check(&format!("{ADAPTERS}{more}"));
    assert_eq!(loaded.report.errors(), 0, "{:?}", findings(&loaded));
    loaded.configuration.unwrap()
}

#[test]
fn everything_has_a_default() {
    let configuration = read("[[route]]\nname = \"r\"\nto = \"door\"\n");
    let gateway = &configuration.gateway;
    assert_eq!(gateway.data_dir.to_str(), Some("transload-data"));
    assert_eq!(gateway.admin, None);
    assert_eq!(gateway.drain_timeout, Duration::from_secs(10));
    assert_eq!(gateway.disk_bytes_max, 10 << 30);
    let route = &configuration.routes[0];
    assert_eq!(route.from, [0, 1]);
    assert_eq!(route.patterns[0].as_str(), "#");
    assert_eq!(route.guarantee, Guarantee::Stored);
    assert_eq!(route.when_full, WhenFull::Block);
    assert_eq!(route.queue.storage, Storage::Disk);
    assert_eq!((route.queue.messages_max, route.queue.bytes_max), (1_000_000, 1 << 30));
    assert_eq!((route.attempts_max, route.expires), (10, None));
    assert_eq!(&*route.to[0].destination, "r/door");
    assert_eq!(configuration.adapters[0].credits, 1_000);
}

#[test]
fn every_key_is_read() {
    let configuration = read(
        "max_unsettled = 7\nmax_unsettled_bytes = \"3MiB\"\n\
         deduplicate = { window = \"2m\", max_ids = 9, by = \"header:Key\" }\n[gateway]\ndata_dir = \"d\"\nadmin = \"127.0.0.1:9640\"\n\
         drain_timeout = \"1m\"\nmax_disk_bytes = \"1GiB\"\n\
         dead_letters = { max_messages = 4, max_bytes = \"2KiB\", max_age = \"3d\" }\n[[route]]\nname = \"r\"\n\
         from = \"door\"\nmatch = [\"a/{x}\", \"b/{x}\"]\nfallback = true\nstop = true\n\
         guarantee = \"delivered\"\nwhen_full = \"drop-oldest\"\nattempts = 3\nexpires = \"1h\"\n\
         queue = { max_messages = 5, max_bytes = \"1KiB\", max_age = \"2s\" }\n\
         to = [{ adapter = \"broker\", exchange = \"e\", routing_key = \"{x}\" }, \
         { adapter = \"broker\", exchange = \"e\", routing_key = \"{{\" }, \
         { adapter = \"broker\", exchange = \"e\", routing_key = \"k\" }]\n",
    );
    assert_eq!(configuration.adapters[1].credits, 7);
    assert_eq!(configuration.adapters[1].unsettled_bytes, ByteSize::from_mib(3));
    assert_eq!(
        configuration.adapters[1].deduplicate,
        Some(Deduplicate {
            window: Duration::from_mins(2),
            ids_max: 9,
            by: DeduplicateBy::Header("Key".into()),
        })
    );
    assert_eq!(configuration.adapters[0].deduplicate, None);
    let gateway = &configuration.gateway;
    assert_eq!(gateway.admin.unwrap().port(), 9640);
    assert_eq!((gateway.drain_timeout, gateway.disk_bytes_max), (Duration::from_mins(1), 1 << 30));
    let bounds = &gateway.dead_letters;
    assert_eq!((bounds.messages_max, bounds.bytes_max), (4, 2048));
    assert_eq!(bounds.age_max, Some(Duration::from_hours(72)));
    let route = &configuration.routes[0];
    assert_eq!((&*route.from, route.patterns.len()), (&[0][..], 2));
    assert!(route.fallback && route.stop);
    assert_eq!((route.guarantee, route.when_full), (Guarantee::Delivered, WhenFull::DropOldest));
    assert_eq!((route.attempts_max, route.expires), (3, Some(Duration::from_hours(1))));
    let queue = &route.queue;
    assert_eq!((queue.storage, queue.messages_max, queue.bytes_max), (Storage::Memory, 5, 1024));
    assert_eq!(queue.age_max, Some(Duration::from_secs(2)));
    let names: Vec<_> = route.to.iter().map(|target| &*target.destination).collect();
    assert_eq!(names, ["r/broker", "r/broker/2", "r/broker/3"]);
    let templates: Vec<_> = route.to.iter().map(|target| target.templates.len()).collect();
    assert_eq!(templates, [1, 1, 0]);
}

#[test]
fn the_guarantee_follows_from_what_source_and_targets_can() {
    for (broker, from, target, expected) in [
        ("", "broker", "to = \"door\"", Guarantee::Stored),
        ("careless = true", "broker", "to = \"door\"", Guarantee::BestEffort),
        (
            "careless = true",
            "broker",
            "to = { adapter = \"broker\", exchange = \"e\" }",
            Guarantee::Stored,
        ),
        (
            "careless = true",
            "broker",
            "to = { adapter = \"broker\", exchange = \"e\", unconfirmed = true }",
            Guarantee::BestEffort,
        ),
        ("careless = true", "any", "to = \"door\"", Guarantee::Stored),
        ("", "door", "to = \"door\"", Guarantee::Stored),
    ] {
        let text = format!("{broker}\n[[route]]\nname = \"r\"\nfrom = \"{from}\"\n{target}\n");
        let configuration = read(&text);
        let route = &configuration.routes[0];
        assert_eq!(route.guarantee, expected, "{text}");
        let on_disk = route.queue.storage == Storage::Disk;
        assert_eq!(on_disk, expected == Guarantee::Stored, "{text}");
    }
}

#[test]
fn included_files_add_adapters_and_routes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    let main = write("adapters.toml", &format!("include = [\"routes/*.toml\"]\n{ADAPTERS}"));
    write("routes/b.toml", "[[route]]\nname = \"b\"\nto = \"late\"\n");
    write("routes/a.toml", "[[route]]\nname = \"a\"\nto = \"door\"\n");
    write("routes/c.toml", "[adapters.late]\nkind = \"door\"\nlisten = \"x\"\n");
    write("routes/ignored.txt", "no toml");
    let loaded = load(&main, &environment, &registry());
    assert_eq!(findings(&loaded), [""; 0]);
    let configuration = loaded.configuration.unwrap();
    let routes: Vec<_> = configuration.routes.iter().map(|route| &*route.name).collect();
    assert_eq!(routes, ["a", "b"]);
    assert_eq!(configuration.adapters.len(), 3);

    write("routes/b.toml", "include = [\"x\"]\n[gateway]\n[[route]]\nname = \"a\"\nto = \"dor\"\n");
    write("routes/c.toml", "[adapters.door]\nkind = \"door\"\nlisten = \"x\"\n");
    let loaded = load(&main, &environment, &registry());
    let expected = [
        "1:11 `include` cannot stand in an included file -> an included file has `[adapters.NAME]`, \
         `[[route]]` and `[[test]]` only",
        "2:1 `gateway` cannot stand in an included file -> an included file has `[adapters.NAME]`, \
         `[[route]]` and `[[test]]` only",
        "4:8 there are two routes named `a`",
        "5:6 there is no adapter named `dor` -> did you mean `door`?",
        "1:11 there are two adapters named `door`",
    ];
    assert_eq!(findings(&loaded), expected);
    let text = loaded.report.render(false);
    for place in ["routes/b.toml:5:6", "routes/a.toml:2:8", "adapters.toml:2:11"] {
        assert!(text.contains(place), "{place}: {text}");
    }
}

#[test]
fn files_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.toml");
    let loaded = load(&path, &environment, &registry());
    assert!(loaded.configuration.is_none());
    assert!(findings(&loaded)[0].starts_with("cannot read `"), "{:?}", findings(&loaded));
    let includes = "include = [\"none/*.toml\", \"one.toml\", 5]\n";
    fs::write(&path, format!("{includes}{ADAPTERS}")).unwrap();
    let loaded = load(&path, &environment, &registry());
    let found = findings(&loaded);
    assert!(found[0].starts_with("1:12 no file matches"), "{found:?}");
    assert!(found[1].starts_with("1:27 cannot read `"), "{found:?}");
    assert!(found[2].starts_with("1:39 expected an array of paths"), "{found:?}");
    assert_eq!(found.len(), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a check writes nothing");
}

#[test]
fn the_overview_shows_adapters_routes_and_guarantees() {
    let configuration = read(
        "[[route]]\nname = \"telemetry\"\nfrom = \"door\"\nmatch = \"devices/{id}\"\n\
         to = [{ adapter = \"broker\", exchange = \"e\", routing_key = \"d.{id}\" }, \"door\"]\n\
         [[route]]\nname = \"rest\"\nfallback = true\nguarantee = \"best-effort\"\nto = \"door\"\n",
    );
    let expected = "\
ADAPTER  KIND    WHERE
door     door    listens on 127.0.0.1:1
broker   broker  broker://host

Messages and sessions are kept in transload-data

ROUTE            FROM  MATCH         TO                              GUARANTEE    QUEUE
telemetry        door  devices/{id}  broker: exchange e, key d.{id}  stored       disk, 1000000 messages, 1GiB
                                     door
rest (fallback)  any   #             door                            best-effort  memory, 100000 messages, 32MiB

stored:       acknowledged to the source once the message is on disk; delivered from there, also after a restart
best-effort:  acknowledged to the source as soon as the message was read; lost when the gateway ends before it is delivered
";
    assert_eq!(overview(&configuration), expected);
}

#[test]
fn the_schema_documents_every_key() {
    let schema = schema(&registry());
    let text = schema.to_string();
    for key in [
        "data_dir",
        "admin",
        "drain_timeout",
        "max_disk_bytes",
        "include",
        "kind",
        "max_unsettled",
        "max_unsettled_bytes",
        "dead_letters",
        "deduplicate",
        "window",
        "max_ids",
        "by",
        "listen",
        "banner",
        "url",
        "password",
        "password_file",
        "consume",
        "prefetch",
        "name",
        "from",
        "match",
        "to",
        "fallback",
        "stop",
        "guarantee",
        "when_full",
        "queue",
        "storage",
        "max_messages",
        "max_bytes",
        "max_age",
        "attempts",
        "expires",
        "adapter",
        "exchange",
        "routing_key",
        "topic",
    ] {
        assert!(text.contains(&format!("\"{key}\":")), "{key}");
    }
    let mut undocumented = Vec::new();
    undocumented_keys(&schema, &mut undocumented);
    assert_eq!(undocumented, [""; 0]);
    assert_eq!(schema["$defs"]["AdapterTable"]["oneOf"].as_array().unwrap().len(), 3);
    assert_eq!(schema["$defs"]["RouteTable"]["required"], serde_json::json!(["name", "to"]));
}

/// Collects the keys that have no description, not even that of their type.
fn undocumented_keys(schema: &serde_json::Value, into: &mut Vec<String>) {
    if let Some(keys) = schema.get("properties").and_then(|keys| keys.as_object()) {
        for (key, value) in keys {
            // A key may itself be named `properties`; what it holds are no keys then.
            let lacks = |what| value.is_object() && value.get(what).is_none();
            if lacks("description") && lacks("$ref") {
                into.push(key.clone());
            }
        }
    }
    let members = schema.as_object().into_iter().flat_map(|members| members.values());
    for value in members.chain(schema.as_array().into_iter().flatten()) {
        undocumented_keys(value, into);
    }
}

#[test]
fn the_time_to_load_does_not_grow_with_the_square_of_the_routes() {
    let time = |count: usize| {
        let mut text = ADAPTERS.to_owned();
        for number in 0..count {
            let _ = write!(
                text,
                "[[route]]\nname = \"r{number}\"\nmatch = \"site/{number}/{{x}}\"\nstop = true\n\
                 to = {{ adapter = \"door\", topic = \"t/{{x}}\" }}\n"
            );
        }
        let start = std::time::Instant::now();
        let loaded = check(&text);
        assert_eq!(findings(&loaded), [""; 0]);
        assert_eq!(loaded.configuration.unwrap().routes.len(), count);
        start.elapsed()
    };
    // Eight times the routes take eight times as long, and 64 times if it grew with the square. The
    // two are compared in one run, since the machine may be busy.
    let (few, many) = (time(1_000), time(8_000));
    assert!(many < few * 32, "1,000 routes: {few:?}, 8,000: {many:?}");
}
