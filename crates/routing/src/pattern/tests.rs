use proptest::prelude::*;

use super::*;
use crate::naive;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Checks a fault: `marked` is the pattern with `«` and `»` around what the fault is about.
#[track_caller]
fn check_error(
    parse: fn(&str) -> Result<Pattern, PatternError>,
    marked: &str,
    message: &str,
    help: &str,
) {
    let text = marked.replace(['«', '»'], "");
    let start = marked.find('«').unwrap();
    let end = marked.find('»').unwrap() - '«'.len_utf8();
    let error = parse(&text).expect_err(&text);
    assert!(error.message.contains(message), "{text}: {error}");
    assert_eq!(error.range, start..end, "{text}: {error}");
    let given = error.help.as_deref().unwrap_or_default();
    assert!(given.contains(help), "{text}: {given}");
    assert_eq!(help.is_empty(), given.is_empty(), "{text}: {given}");
}

#[test]
fn faults_are_named_with_their_place() {
    for (marked, message, help) in [
        ("«»", "is empty", "`#`"),
        ("a/b«\0»c", "U+0000", ""),
        ("«#»/a", "must be the last", "`+`"),
        ("a/«#»/b", "must be the last", "`+`"),
        ("a/«{rest...}»/b", "must be the last", "`+`"),
        ("sport«+»", "must be a whole level", "`{name}`"),
        ("sport/tennis«#»", "must be a whole level", "behind a `/`"),
        ("a/«+»+/b", "must be a whole level", "`{name}`"),
        ("é/x«#»y", "must be a whole level", "behind a `/`"),
        ("a/«{b»/c", "not closed", "`{{`"),
        ("a/«{b»", "not closed", "`{{`"),
        ("a/b«}»/c", "closes nothing", "`}}`"),
        ("a/«{}»", "has no name", "`+`"),
        ("a/«{...}»", "has no name", "`+`"),
        ("a/{«1st»}", "cannot be the name", "a letter or `_`"),
        ("a/{«device-id»}", "cannot be the name", "`{device_id}`"),
        ("a/{« device »}", "cannot be the name", "`{device}`"),
        ("a/{«path*»}", "cannot be the name", "`{path...}`"),
        ("a/{«größe»}", "cannot be the name", "a letter or `_`"),
        ("{a}/«{a}»", "two captures with the name `a`", "`+`"),
        ("{a}/«{a...}»", "two captures with the name `a`", "`+`"),
        ("«$S{id}»/a", "cannot hold a capture", "in full"),
        ("a/{b}-«{c}»", "at most one capture", "not be certain"),
        ("a/x«{rest...}»", "matches whole levels", "`{rest}`"),
        ("a/«{rest...}»x", "matches whole levels", "`{rest}`"),
    ] {
        check_error(Pattern::parse, marked, message, help);
    }
}

#[test]
fn filters_have_the_same_faults_without_captures() {
    for (marked, message) in [
        ("a/«#»/b", "must be the last"),
        ("sport«+»", "must be a whole level"),
        ("a/{x}«#»", "must be a whole level"),
    ] {
        let help = if message.contains("last") { "`+`" } else { "" };
        check_error(Pattern::parse_filter, marked, message, help);
    }
    let filter = Pattern::parse_filter("a/{x}/{{/}/+").unwrap();
    assert!(filter.captures().is_empty());
    assert!(filter.matches("a/{x}/{{/}/b").is_some());
    assert!(filter.matches("a/x/{{/}/b").is_none());
}

#[test]
fn bounds_are_held_and_named() {
    let at_bound = "x".repeat(PATTERN_BYTES_MAX);
    assert!(pattern(&at_bound).matches(&at_bound).is_some());
    let error = Pattern::parse(&format!("{at_bound}x")).unwrap_err();
    assert!(error.message.contains("65536 bytes"), "{error}");

    let levels = vec!["a"; LEVELS_MAX].join("/");
    pattern(&levels);
    let error = Pattern::parse(&format!("{levels}/b/c")).unwrap_err();
    assert!(error.message.contains("128 levels"), "{error}");
    assert_eq!(error.range, levels.len() + 1..levels.len() + 4);

    let captures: Vec<_> = (0..CAPTURES_MAX).map(|number| format!("{{c{number}}}")).collect();
    let captures = captures.join("/");
    let full = pattern(&captures);
    let address = vec!["v"; CAPTURES_MAX].join("/");
    assert_eq!(full.matches(&address).unwrap().len(), CAPTURES_MAX);
    let error = Pattern::parse(&format!("{captures}/x{{one_more}}")).unwrap_err();
    assert!(error.message.contains("16 captures"), "{error}");
    assert_eq!(error.range, captures.len() + 2..captures.len() + 12);

    let name = "n".repeat(65);
    let error = Pattern::parse(&format!("a/{{{name}}}")).unwrap_err();
    assert!(error.message.contains("64 bytes"), "{error}");
}

#[test]
fn addresses_match_as_the_specification_says() {
    // MQTT 5.0, sections 4.7.1 to 4.7.3, and their corners.
    for (text, matching, others) in [
        (
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"][..],
            &["sport/tennis/player2", "sport/tennis", "sport/tennis/player12"][..],
        ),
        ("sport/#", &["sport", "sport/", "sport/a/b"], &["sports", "", "/sport", "Sport"]),
        ("#", &["", "/", "a", "a/b/c", "/a", "a$"], &["$SYS", "$SYS/a", "$"]),
        (
            "sport/tennis/+",
            &["sport/tennis/player1", "sport/tennis/"],
            &["sport/tennis/player1/ranking", "sport/tennis"],
        ),
        ("sport/+", &["sport/"], &["sport"]),
        ("+/+", &["/finance", "/", "a/"], &["finance", "//"]),
        ("/+", &["/finance", "/"], &["finance", "", "/a/b"]),
        ("+", &["finance", ""], &["/finance", "$SYS"]),
        ("+/tennis/#", &["sport/tennis", "/tennis/x"], &["$sport/tennis"]),
        ("+/monitor/Clients", &["a/monitor/Clients"], &["$SYS/monitor/Clients"]),
        ("$SYS/#", &["$SYS", "$SYS/", "$SYS/a"], &["$SYSTEM", "SYS"]),
        ("$SYS/monitor/+", &["$SYS/monitor/Clients"], &["$SYS/monitor"]),
        ("a/+/b", &["a//b", "a/$x/b"], &["a/b", "a/x/y/b"]),
        ("a//b", &["a//b"], &["a/b", "a/x/b"]),
        ("a/", &["a/"], &["a", "a//"]),
        ("ACCOUNTS", &["ACCOUNTS"], &["Accounts"]),
        ("Accounts payable", &["Accounts payable"], &["Accounts"]),
        ("größe/☃", &["größe/☃"], &["größe/", "große/☃"]),
    ] {
        for parse in [Pattern::parse, Pattern::parse_filter] {
            let pattern = parse(text).unwrap();
            for address in matching {
                assert!(pattern.matches(address).is_some(), "{text} does not match {address}");
            }
            for address in others {
                assert!(pattern.matches(address).is_none(), "{text} matches {address}");
            }
            assert_eq!(pattern.to_filter(), text);
            assert_eq!(pattern.to_string(), text);
        }
    }
}

#[test]
fn captures_are_the_texts_of_their_levels() {
    for (text, address, captured) in [
        ("devices/{id}/telemetry", "devices/d7/telemetry", Some(&[("id", "d7")][..])),
        ("devices/{id}/telemetry", "devices//telemetry", Some(&[("id", "")])),
        ("devices/{id}/telemetry", "devices/a/b/telemetry", None),
        ("{a}/+/{b}", "x/y/z", Some(&[("a", "x"), ("b", "z")])),
        ("{a}", "$SYS", None),
        ("hooks/{path...}", "hooks/git/hub", Some(&[("path", "git/hub")])),
        ("hooks/{path...}", "hooks/", Some(&[("path", "")])),
        ("hooks/{path...}", "hooks", Some(&[("path", "")])),
        ("{all...}", "a/b", Some(&[("all", "a/b")])),
        ("{all...}", "", Some(&[("all", "")])),
        ("{all...}", "$a/b", None),
        ("dev-{id}", "dev-7", Some(&[("id", "7")])),
        ("dev-{id}", "dev-", Some(&[("id", "")])),
        ("dev-{id}", "dev", None),
        ("{id}.raw/x", "a.raw.raw/x", Some(&[("id", "a.raw")])),
        ("a{mid}a", "a", None),
        ("a{mid}a", "aa", Some(&[("mid", "")])),
        ("é{mid}ü", "éxü", Some(&[("mid", "x")])),
        ("{id}-dev", "$-dev", None),
        ("a/$S{id}", "a/$SYS", Some(&[("id", "YS")])),
        ("{{{id}}}", "{7}", Some(&[("id", "7")])),
        ("{{id}}", "{id}", Some(&[])),
        ("a}}{x}{{b", "a}1{b", Some(&[("x", "1")])),
    ] {
        let pattern = pattern(text);
        let captures = pattern.matches(address);
        let found: Option<Vec<_>> = captures.as_ref().map(|found| found.iter().collect());
        assert_eq!(found.as_deref(), captured, "{text} on {address}");
        for (name, value) in captured.unwrap_or_default() {
            assert_eq!(captures.as_ref().unwrap().get(name), Some(*value));
        }
    }
    assert_eq!(pattern("x/dev-{id}/+/{rest...}").to_filter(), "x/+/+/#");
}

#[test]
fn a_pattern_shows_as_it_was_written() {
    let text = "a/{b}/x-{c}/{{/#";
    let parsed: Pattern = text.parse().unwrap();
    assert_eq!((parsed.as_str(), &*parsed.to_string()), (text, text));
    assert_eq!(parsed.captures(), ["b", "c"]);
    assert_eq!(parsed.levels().len(), 5);
}

proptest! {
    #[test]
    fn patterns_match_as_the_naive_matcher(
        text in naive::pattern(), address in naive::address(),
    ) {
        let found = pattern(&text).matches(&address).is_some();
        prop_assert_eq!(found, naive::matches(&text, &address), "{} on {}", text, address);
    }

    #[test]
    fn a_filter_matches_what_its_pattern_matches(
        text in naive::pattern(), address in naive::address(),
    ) {
        let pattern = pattern(&text);
        let filter = Pattern::parse_filter(&pattern.to_filter()).unwrap();
        prop_assert!(pattern.matches(&address).is_none() || filter.matches(&address).is_some());
    }

    #[test]
    fn any_text_parses_or_has_a_fault_inside_it(text in "[a+#{}./ $é\0]{0,12}") {
        for parse in [Pattern::parse, Pattern::parse_filter] {
            match parse(&text) {
                Ok(pattern) => prop_assert!(pattern.covers(&pattern)),
                Err(error) => prop_assert!(text.get(error.range).is_some()),
            }
        }
    }
}

/// Patterns of up to two levels and a rest, from forms that are prefixes and suffixes of each
/// other, and addresses that tell any two of them apart.
fn universe() -> (Vec<Pattern>, Vec<String>) {
    let forms = [
        "+", "{}", "", "a", "ab", "$", "$a", "a{}", "{}b", "a{}b", "ab{}", "{}ab", "ab{}ab", "${}",
        "$a{}", "{}$",
    ];
    let levels = [
        "", "a", "b", "ab", "x", "ax", "xb", "abx", "xab", "aab", "abb", "axb", "abab", "abxab",
        "abbab", "ab$", "$", "$a", "$x", "$ax", "$ab", "$b", "$xab", "x$", "$$", "$a$",
    ];
    let first = forms.map(|form| form.replace("{}", "{c}"));
    let second = forms.map(|form| form.replace("{}", "{d}"));
    let mut texts = first.to_vec();
    texts.extend(first.iter().flat_map(|a| second.iter().map(move |b| format!("{a}/{b}"))));
    texts.extend(texts.clone().iter().map(|text| format!("{text}/#")));
    texts.extend(["#".to_owned(), "{rest...}".to_owned()]);
    // The empty text is no pattern, and a first level that starts with `$` has no capture.
    texts.retain(|text| Pattern::parse(text).is_ok());
    assert_eq!(texts.len(), 477);

    let mut addresses: Vec<_> = levels.map(str::to_owned).to_vec();
    addresses.extend(levels.iter().flat_map(|a| levels.iter().map(move |b| format!("{a}/{b}"))));
    addresses.extend(addresses.clone().iter().map(|address| format!("{address}/x")));
    (texts.iter().map(|text| pattern(text)).collect(), addresses)
}

#[test]
fn relations_are_those_of_the_sets_of_addresses() {
    let (patterns, addresses) = universe();
    let sets: Vec<Vec<u64>> = patterns
        .iter()
        .map(|pattern| {
            let bits = |some: &[String]| {
                some.iter().fold(0, |bits, address| {
                    bits << 1 | u64::from(pattern.matches(address).is_some())
                })
            };
            addresses.chunks(64).map(bits).collect()
        })
        .collect();
    for (left, ones) in patterns.iter().zip(&sets) {
        for (right, others) in patterns.iter().zip(&sets) {
            let overlap = ones.iter().zip(others).any(|(a, b)| a & b != 0);
            assert_eq!(left.overlaps(right), overlap, "{left} overlaps {right}");
            let cover = ones.iter().zip(others).all(|(a, b)| b & !a == 0);
            assert_eq!(left.covers(right), cover, "{left} covers {right}");
        }
    }
}
