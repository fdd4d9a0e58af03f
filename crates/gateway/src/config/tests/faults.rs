use super::{ADAPTERS, check, findings};

#[test]
fn many_faults_are_found_at_once() {
    let loaded = check(include_str!("ten-faults.toml"));
    assert!(loaded.configuration.is_none());
    let expected = [
        "2:17 expected a duration such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\"",
        "7:1 unknown key `baner` -> did you mean `banner`?",
        "10:8 unknown adapter kind `brokre` -> did you mean `broker`?",
        "15:17 the environment variable `UNSET_VARIABLE` is not set -> set it, or give a default: \
         `${UNSET_VARIABLE:-default}`",
        "16:11 expected a duration such as \"250ms\", \"5s\", \"2m\", \"1h30m\" or \"1d\"",
        "20:8 there is no adapter named `device` -> did you mean `devices`?",
        "22:68 the pattern of this route does not capture `devcie` -> did you mean `device`?",
        "25:8 there are two routes named `telemetry`",
        "26:12 `#` matches all levels that follow, so it must be the last -> write `+` for exactly \
         one level",
        "27:18 there is no adapter named `evnts` -> did you mean `events`?",
        "29:1 the key `to` is missing in this route -> write `to = { adapter = \"NAME\", … }`",
        "31:13 unknown value `explode` -> possible values are: `block`, `reject`, `drop-oldest`",
    ];
    assert_eq!(findings(&loaded), expected);
}

/// Checks a file that consists of the adapters (6 lines) and more, for exactly one finding.
fn one(more: &str, expected: &str) {
    let loaded = check(&format!("{ADAPTERS}{more}"));
    assert_eq!(findings(&loaded), [expected], "{more}");
}

/// The same for a route whose further keys are given, from line 9 on.
fn route(keys: &str, expected: &str) {
    one(&format!("[[route]]\nname = \"r\"\n{keys}\n"), expected);
}

const TO: &str = "to = \"door\"";

#[test]
fn a_sound_file_has_no_findings() {
    let loaded = check(&format!("{ADAPTERS}[[route]]\nname = \"r\"\n{TO}\n"));
    assert_eq!(findings(&loaded), [""; 0]);
    assert!(loaded.configuration.is_some());
}

#[test]
fn syntax() {
    one("x = \n", "7:5 string values must be quoted, expected literal string");
    one("password = \"x\ntimeout = \"5s\"\n", "7:14 invalid basic string, expected `\"`");
    one("timeout = \"5s\"\ntimeout = \"6s\"\n", "8:1 duplicate key");
    one("timeout \"5s\"\n", "7:9 key with no value, expected `=`");
    one(
        "[[route]]\nname = \"r\"\nmatch = [\"a\", \"b\"\nto = \"dor\"\n\n[[route]]\nname = \"r\"\n",
        "9:9 this `[` is never closed",
    );
    one(
        "[[route]]\nname = \"r\"\nto = { adapter = \"dor\"\n\n[[route]]\nname = \"r\"\n",
        "9:6 this `{` is never closed",
    );
    let both = check("[gateway]\na = \nb = \"x\nc = 1\nd = 2 3\n");
    assert_eq!(both.report.errors(), 4, "{:?}", findings(&both));
}

#[test]
fn adapters() {
    one(
        "[adapters.Upper]\nkind = \"door\"\nlisten = \"x\"\n",
        "7:11 `Upper` cannot be the name of an adapter -> use up to 128 of the characters a to z, \
         0 to 9, `_` and `-`",
    );
    one(
        "[adapters.any]\nkind = \"door\"\nlisten = \"x\"\n",
        "7:11 `any` cannot be the name of an adapter -> `any` stands for all adapters in `from`",
    );
    one(
        "[adapters.x]\nlisten = \"x\"\n",
        "7:1 the key `kind` is missing in adapter `x` -> kinds are: `broker`, `door`",
    );
    one("[adapters.x]\nkind = 5\n", "8:8 expected a string, found integer");
    one("[adapters]\nx = 5\n", "8:5 expected a table, found integer");
    one(
        "[adapters.x]\nkind = \"door\"\n",
        "7:1 adapter `x` needs `listen` or `mute` -> `listen` for a listener that devices connect \
         to, `mute` for nothing at all",
    );
    one(
        "[adapters.x]\nkind = \"door\"\nlisten = \"a\"\nmute = true\n",
        "7:1 adapter `x` has both `listen` and `mute` -> make two adapters of it, one for each",
    );
    one(
        "[adapters.x]\nkind = \"broker\"\nulr = \"broker://x\"\n",
        "9:1 unknown key `ulr` -> did you mean `url`?",
    );
    one("max_unsettled = 0\n", "7:17 expected an integer of at least 1");
    one("max_unsettled = \"5\"\n", "7:17 expected an integer of at least 1");
    one("max_unsettled_bytes = \"0B\"\n", "7:23 expected at least one byte");
    one("max_unsettled_bytes = 5\n", "7:23 expected a size such as \"8MiB\"");
    one("max_unsetled = 5\n", "7:1 unknown key `max_unsetled` -> did you mean `max_unsettled`?");
    one(
        "deduplicate = \"id\"\n",
        "7:15 expected a table, found string -> write `deduplicate = { window = \"10m\" }`",
    );
    one("deduplicate = { by = \"header:\" }\n", "7:22 expected \"id\" or \"header:NAME\"");
    one("deduplicate = { window = \"0s\" }\n", "7:26 expected a duration of more than nothing");
    one(
        "deduplicate = { max_ids = 10000001 }\n",
        "7:27 expected an integer between 1 and 10000000",
    );
    one("deduplicate = { windw = \"1m\" }\n", "7:17 unknown key `windw` -> did you mean `window`?");
    one(
        "[adapters.x]\nkind = \"broker\"\nurl = \"http://x\"\n",
        "9:7 `http://x` does not start with `broker://`",
    );
    one("[[adapters.broker.consume]]\nqueue = \"\"\n", "8:9 the queue has no name");
    one(
        "[[adapters.broker.consume]]\nprefetch = 1\n",
        "7:1 the key `queue` is missing in adapter `broker`",
    );
    one(
        "[[adapters.broker.consume]]\nqueue = \"q\"\nprefetch = 70000\n",
        "9:12 expected an integer from 0 to 65535, found integer `70000`",
    );
}

#[test]
fn root() {
    one("[[routes]]\nname = \"x\"\n", "7:3 unknown key `routes` -> write `[[route]]`");
    one("[gatway]\n", "7:2 unknown key `gatway` -> did you mean `gateway`?");
    one(
        "[route]\nname = \"x\"\n",
        "7:1 expected an array of tables -> write `[[route]]`, in double brackets",
    );
    one("[gateway]\nmax_disk_bytes = 5\n", "8:18 expected at least \"64MiB\"");
    one(
        "[gateway]\ndead_letters = { max_mesages = 5 }\n",
        "8:18 unknown key `max_mesages` -> did you mean `max_messages`?",
    );
    one(
        "[[route]]\nname = \"dead-letters\"\nto = \"door\"\n",
        "8:8 this cannot be the name of a route -> the name stands for the dead letters of all \
         routes",
    );
    one(
        "[gateway]\nadmin = \"0.0.0.0:1\"\n",
        "8:9 other machines can reach this address, and it asks nobody for a token -> use \
         \"127.0.0.1:…\", give an `admin_token_file`, or say `insecure_without_authentication = true`",
    );
    one(
        "[gateway]\nadmin = \"0.0.0.0:1\"\nadmin_token = \"short\"\n",
        "9:15 expected at least 16 printable ASCII characters without spaces -> make one with \
         `openssl rand -hex 32`",
    );
    one(
        "[gateway]\nadmin_token = \"0123456789abcdef\"\nadmin_token_file = \"x\"\n",
        "9:20 the token is given in `admin_token` too",
    );
    one(
        "[gateway]\nadmin = \"localhost\"\n",
        "8:9 expected an IP address and a port such as \"127.0.0.1:9640\"",
    );
}

#[test]
fn routes() {
    one(&format!("[[route]]\n{TO}\n"), "7:1 the key `name` is missing in this route");
    one(
        &format!("[[route]]\nname = \"a/b\"\n{TO}\n"),
        "8:8 this cannot be the name of a route -> use up to 128 bytes without `/` and without \
         control characters",
    );
    route(
        "",
        "7:1 the key `to` is missing in this route -> write `to = { adapter = \"NAME\", … }`",
    );
    route("to = []", "9:6 a route needs at least one target");
    route(
        "to = 5",
        "9:6 expected a table or an adapter's name, found integer -> write `{ adapter = \"NAME\", … }`",
    );
    route("to = { topic = \"x\" }", "9:6 the key `adapter` is missing in this target");
    route("to = \"dor\"", "9:6 there is no adapter named `dor` -> did you mean `door`?");
    route(
        "to = \"zzz\"",
        "9:6 there is no adapter named `zzz` -> the adapters are: `door`, `broker`",
    );
    route("to = \"broker\"", "9:6 the key `exchange` is missing in this target of `broker`");
    route(
        "to = { adapter = \"broker\", exchagne = \"x\" }",
        "9:28 unknown key `exchagne` -> did you mean `exchange`?",
    );
    route(
        "to = [\"door\", { adapter = \"door\", topic = 5 }]",
        "9:43 expected a string, found integer `5`",
    );
    route(&format!("from = [\"door\", 5]\n{TO}"), "9:17 expected a string, found integer `5`");
    route(&format!("stop = \"yes\"\n{TO}"), "9:8 expected `true` or `false`, found string \"yes\"");
    route(
        &format!("attempts = 0\n{TO}"),
        "9:12 expected an integer of at least 1, found integer `0`",
    );
    route(
        &format!("guarantee = \"deliverd\"\n{TO}"),
        "9:13 unknown value `deliverd` -> did you mean `delivered`?",
    );
    route(
        &format!("queue = {{ storage = \"memory\" }}\n{TO}"),
        "9:9 the guarantee \"stored\" needs a queue on disk -> use \"disk\", or `guarantee = \
         \"delivered\"` or \"best-effort\"",
    );
    one(
        "[adapters.mute]\nkind = \"door\"\nmute = true\n[[route]]\nname = \"r\"\nfrom = \"mute\"\n\
         to = \"door\"\n",
        "12:8 adapter `mute` takes no messages in",
    );
    one(
        "[adapters.mute]\nkind = \"door\"\nmute = true\n[[route]]\nname = \"r\"\nto = \"mute\"\n",
        "12:6 adapter `mute` cannot send",
    );
}

#[test]
fn places_inside_patterns_and_templates() {
    for (keys, at) in [
        ("match = \"é/{\"\nto = \"door\"", "9:12"),
        ("match = 'é/{'\nto = \"door\"", "9:12"),
        ("match = [\"ok\", \"a/{b\"]\nto = \"door\"", "9:19"),
        ("match = \"\\u0061/\\\"{\"\nto = \"door\"", "9:19"),
        ("match = \"${HOST}/{\"\nto = \"door\"", "9:9"),
        ("to = { adapter = \"door\", topic = \"a/{x}\" }", "9:38"),
        ("match = \"{x}\"\nto = { adapter = \"door\", topic = \"\\\"{x}/{y}\" }", "10:42"),
        ("to = { adapter = \"door\", topic = \"a/{\" }", "9:37"),
        ("when = \"payload.x > 3 && kind == 1\"\nto = \"door\"", "9:26"),
        ("when = 'payload.é'\nto = \"door\"", "9:17"),
        ("when = \"\"\"\n  payload.x == \\\"a\\\"\n  && foo(1)\"\"\"\nto = \"door\"", "11:6"),
        ("match = \"{a}/x\"\nwhen = \"captures.b == 'x'\"\nto = \"door\"", "10:18"),
        ("when_missing = \"skip\"\nto = \"door\"", "9:16"),
        ("to = { adapter = \"door\", topic = \"a/{payload.x + foo}\" }", "9:50"),
        ("to = { adapter = \"door\", topic = \"a/{captures.x + 'y'}\" }", "9:47"),
        ("match = [\"a/{x}\", \"b\"]\nto = { adapter = \"door\", topic = \"{x}\" }", "10:36"),
    ] {
        let found = findings(&check(&format!("{ADAPTERS}[[route]]\nname = \"r\"\n{keys}\n")));
        assert_eq!(found.len(), 1, "{keys}: {found:?}");
        assert_eq!(found[0].split(' ').next(), Some(at), "{keys}: {found:?}");
    }
}

#[test]
fn warnings_about_routes() {
    route(
        "from = \"broker\"\nmatch = \"$SYS/#\"\nto = \"door\"",
        "10:9 nothing comes in under such an address",
    );
    route(
        "from = \"broker\"\nmatch = \"a/{x}\"\n\
         to = { adapter = \"broker\", exchange = \"e\", routing_key = \"a.{x}\" }",
        "11:58 what this route sends to `broker` may come back to it: its `routing_key` matches \
         the route's own pattern -> send it to another address, or take it from other adapters",
    );
    route(
        &format!("guarantee = \"delivered\"\n{TO}"),
        "9:13 `door` does not confirm what it is sent here, so \"delivered\" only means that the \
         message was sent",
    );
    one(
        "careless = true\n[[route]]\nname = \"r\"\nfrom = \"broker\"\nguarantee = \"stored\"\n\
         to = \"door\"\n",
        "11:13 `broker` does not wait for an acknowledgement, so a message that was not stored \
         when the gateway ends is lost",
    );
}

#[test]
fn routes_that_never_get_a_message() {
    let two = |first: &str, second: &str| {
        let text = format!(
            "{ADAPTERS}[[route]]\nname = \"one\"\n{TO}\n{first}\n[[route]]\nname = \"two\"\n{TO}\n\
             {second}\n"
        );
        let loaded = check(&text);
        assert_eq!(loaded.report.errors(), 0, "{:?}", findings(&loaded));
        findings(&loaded).iter().filter(|finding| finding.contains("never gets")).count()
    };
    for (first, second, unreachable) in [
        ("stop = true", "", true),
        ("stop = true\nmatch = \"a/#\"", "match = \"a/{x}\"", true),
        ("stop = true\nmatch = \"a/#\"", "match = [\"a/b\", \"a\"]", true),
        ("stop = true\nmatch = \"a/#\"", "match = [\"a/b\", \"b\"]", false),
        ("stop = true\nmatch = \"a/#\"\nfrom = \"door\"", "match = \"a/b\"", false),
        ("stop = true\nmatch = \"a/#\"\nfrom = \"door\"", "match = \"a/b\"\nfrom = \"door\"", true),
        ("match = \"a/#\"", "match = \"a/b\"", false),
        ("match = \"a/#\"", "match = \"a/b\"\nfallback = true", true),
        ("fallback = true", "match = \"a/b\"", false),
        ("fallback = true\nstop = true", "match = \"a/b\"\nfallback = true", true),
    ] {
        assert_eq!(two(first, second) > 0, unreachable, "{first} | {second}");
    }
}

#[test]
fn a_condition_ends_no_way() {
    for (more, warnings) in [("", 1), ("when = \"payload.x > 3\"\n", 0)] {
        let text = format!(
            "{ADAPTERS}[[route]]\nname = \"first\"\nstop = true\n{more}{TO}\n\
             [[route]]\nname = \"second\"\n{TO}\n"
        );
        assert_eq!(check(&text).report.warnings(), warnings, "{text}");
    }
}

#[test]
fn findings_look_like_those_of_rustc() {
    let loaded = check(&format!(
        "{ADAPTERS}[[route]]\nname = \"r\"\nto = {{ adapter = \"broker\", exchagne = \"x\" }}\n\
         [[route]]\nname = \"r\"\nto = \"door\"\n"
    ));
    let expected = "\
error: unknown key `exchagne`
 --> adapters.toml:9:28
  |
9 | to = { adapter = \"broker\", exchagne = \"x\" }
  |                            ^^^^^^^^
  |
  = help: did you mean `exchange`?

error: there are two routes named `r`
  --> adapters.toml:11:8
   |
 8 | name = \"r\"
   |        --- the other one
...
11 | name = \"r\"
   |        ^^^

2 errors
";
    assert_eq!(loaded.report.render(false), expected);
    let json = loaded.report.to_json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["findings"][0]["line"], 9);
    assert_eq!(json["findings"][0]["column"], 28);
    assert_eq!(json["findings"][0]["end_column"], 36);
    assert_eq!(json["findings"][1]["related"][0]["line"], 8);
}

#[test]
fn lanes_and_batches() {
    route(
        &format!("{TO}\nlanes = 4"),
        "10:9 without `ordered_by`, messages go one after the other and lanes have nothing to do \
         -> say `ordered_by = \"{…}\"` too, such as `ordered_by = \"{address}\"`",
    );
    route(
        &format!("{TO}\nordered_by = \"{{address}}\"\nlanes = 257"),
        "11:9 expected an integer between 1 and 256",
    );
    route(
        &format!("{TO}\nmatch = \"{{device}}/#\"\nordered_by = \"{{devcie}}\""),
        "11:16 the pattern of this route does not capture `devcie` -> did you mean `device`?",
    );
    route(
        &format!("{TO}\nordered_by = \"device\""),
        "10:14 this is the same for every message, so they go one after the other -> use what \
         tells apart the messages whose order matters, such as a capture `{device}`, or leave the \
         key out",
    );
    route(
        &format!("{TO}\nbatch = {{ max_messages = 10001 }}"),
        "10:26 expected an integer between 1 and 10000",
    );
    route(
        &format!("{TO}\nbatch = {{ max_bytes = \"65MiB\" }}"),
        "10:23 expected a size between \"1B\" and \"64MiB\"",
    );
    route(
        &format!("{TO}\nbatch = {{ max_wait = \"2h\" }}"),
        "10:22 expected a duration of at most \"1h\"",
    );
    route(
        &format!("{TO}\nbatch = {{ format = \"xml\" }}"),
        "10:20 unknown value `xml` -> possible values are: `json`, `lines`",
    );
}

/// A test whose further keys are given, from line 11 on.
fn rule_test(keys: &str, expected: &str) {
    let start = "[[route]]\nname = \"r\"\nto = \"door\"\n[[test]]\n";
    one(&format!("{start}{keys}\n"), expected);
}

#[test]
fn rule_tests() {
    let from = "from = \"door\"\naddress = \"a\"";
    rule_test("address = \"a\"\nexpect = []", "10:1 the key `from` is missing in this test");
    rule_test(
        "from = \"dor\"\naddress = \"a\"\nexpect = []",
        "11:8 there is no adapter named `dor` -> did you mean `door`?",
    );
    rule_test(
        from,
        "10:1 this test expects nothing -> write `expect = [{ to = \"NAME\", … }]`, or \
         `expect = []` for a message that goes nowhere",
    );
    rule_test(
        &format!("{from}\npayload = \"x\"\njson = 1\nexpect = []"),
        "14:1 the payload is given twice",
    );
    rule_test(
        &format!("{from}\nproperties = {{ priority = 300 }}\nexpect = []"),
        "13:27 `priority`: expected an integer from 0 to 255, found 300",
    );
    rule_test(
        &format!("{from}\nexpect = [{{ to = \"broker\", exchagne = \"x\" }}]"),
        "13:28 unknown key `exchagne` -> did you mean `exchange`?",
    );
    rule_test(
        &format!("{from}\nexpect = [{{ to = \"broker\", route = \"rr\" }}]"),
        "13:36 there is no route named `rr` -> did you mean `r`?",
    );
    rule_test(&format!("{from}\nexpect = [5]"), "13:11 expected a table, found integer");
    rule_test(
        &format!("{from}\nexpect = [{{ exchange = \"x\" }}]"),
        "13:11 the key `to` is missing in this expectation",
    );
    one(
        "[test]\nfrom = \"door\"\n",
        "7:1 expected an array of tables -> write `[[test]]`, in double brackets",
    );
}

#[test]
fn circles_through_several_routes() {
    one(
        "[[route]]\nname = \"there\"\nfrom = \"broker\"\nmatch = \"a/{x}\"\n\
         to = { adapter = \"broker\", exchange = \"e\", routing_key = \"b.{x}\" }\n\
         [[route]]\nname = \"back\"\nfrom = \"broker\"\nmatch = \"b/{x}\"\n\
         to = { adapter = \"broker\", exchange = \"e\", routing_key = \"a.{x}\" }\n",
        "11:58 what this route sends to `broker` may come back to it by way of `back` -> send it to \
         another address, or take it from other adapters",
    );
    // The second route takes from elsewhere.
    let loaded = check(&format!(
        "{ADAPTERS}[[route]]\nname = \"there\"\nfrom = \"broker\"\nmatch = \"a/{{x}}\"\n\
         to = {{ adapter = \"broker\", exchange = \"e\", routing_key = \"b.{{x}}\" }}\n\
         [[route]]\nname = \"back\"\nfrom = \"door\"\nmatch = \"b/{{x}}\"\n\
         to = {{ adapter = \"broker\", exchange = \"e\", routing_key = \"a.{{x}}\" }}\n"
    ));
    assert_eq!(findings(&loaded), [""; 0]);
}

#[test]
fn a_message_whose_address_stays_may_come_back() {
    one(
        "[[route]]\nname = \"r\"\nfrom = [\"broker\", \"door\"]\nmatch = \"a/#\"\n\
         to = { adapter = \"broker\", exchange = \"e\" }\n",
        "11:6 what this route sends to `broker` may come back to it: its address matches the route's \
         own pattern -> send it to another address, or take it from other adapters",
    );
}

#[test]
fn targets_that_get_messages_twice() {
    let help = "leave one of them out, or let the first route say `stop = true`";
    one(
        "[[route]]\nname = \"a\"\nto = [\"door\", \"door\"]\n",
        &format!("9:15 this target stands here twice, and gets every message twice -> {help}"),
    );
    let both = |first: &str, second: &str| {
        let route = |name: &str, keys: &str| {
            format!(
                "[[route]]\nname = \"{name}\"\n{keys}\nto = {{ adapter = \"door\", topic = \"t\" }}\n"
            )
        };
        let loaded = check(&format!("{ADAPTERS}{}{}", route("a", first), route("b", second)));
        findings(&loaded)
    };
    assert_eq!(
        both("match = \"x/#\"", "match = \"x/{y}\""),
        [format!("14:6 this target gets messages twice: route `a` sends them too -> {help}")]
    );
    for (first, second) in [
        ("match = \"x/#\"", "match = \"y/#\""),
        ("match = \"x/#\"\nfrom = \"door\"", "match = \"x/#\"\nfrom = \"broker\""),
        ("match = \"x/#\"", "match = \"x/+\"\nfallback = true"),
    ] {
        let found = both(first, second);
        assert!(!found.iter().any(|finding| finding.contains("twice")), "{found:?}");
    }
}
