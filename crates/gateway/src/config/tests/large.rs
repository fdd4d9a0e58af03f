use std::fmt::Write as _;

use super::{ADAPTERS, check, findings};
use crate::config::Loaded;

/// More routes than one piece of a file has.
const ROUTES: usize = 6_000;

/// A file with many routes, some of which have faults. `header` is the line before each route.
fn file(header: &str, behind: &str) -> String {
    let mut text = format!("{ADAPTERS}password = \"geheim-geheim\"\n");
    for number in 0..ROUTES {
        let keys = match number {
            100 | 5_100 => "name = \"twice\"\nmatch = \"t\"\nto = \"door\"".to_owned(),
            200 => "name = \"n200\"\nto = \"nowhere\" # old-password".to_owned(),
            300 => "name = \"n300\"\nfrom = \"geheim-geheim\"\nto = \"broker\"".to_owned(),
            400 => "name = \"loop\"\nmatch = \"x/${HOST}/${none}\"\nto = \"broker\"".to_owned(),
            5_200 => "name = \"n5200\"\nmatch = \"{a}/{b\"\nto = \"doors\"".to_owned(),
            5_300 => "name = \"é\"\nmatsch = \"a\"\nto = [\"door\", \"door\"]".to_owned(),
            _ => format!("name = \"n{number}\"\nmatch = \"site/{number}/+/up\"\nto = \"door\""),
        };
        writeln!(text, "{header}\n{keys}").unwrap();
    }
    text.push_str(behind);
    text
}

fn shown(loaded: &Loaded) -> String {
    format!("{}{:#}", loaded.report.render(false), loaded.report.to_json())
}

#[test]
fn what_is_wrong_in_a_large_file_is_where_it_is() {
    let behind = "[[test]]\nfrom = \"doors\"\naddress = \"a\"\nexpect = []\n";
    let pieces = file("[[route]]  ", behind);
    assert!(pieces.len() > 256 << 10);
    // A header that does not begin its line keeps a file from being cut.
    let whole = check(&file("  [[route]]", behind));
    let pieces = check(&pieces);
    let found = findings(&pieces);
    assert!(found.len() >= 9, "{found:?}");
    assert_eq!(found, findings(&whole));
    let same = |text: String| text.replace("  [[route]]", "[[route]]  ").replace("  \n", "\n");
    assert_eq!(same(shown(&pieces)), same(shown(&whole)));
    assert!(!found.iter().any(|found| found.contains("geheim")), "{found:?}");
    assert!(!shown(&pieces).contains("old-password"));
}

#[test]
fn a_large_file_comes_to_the_routes_in_its_order() {
    let mut text = ADAPTERS.to_owned();
    for number in 0..ROUTES {
        let pattern = format!("plant/{number}/+/temperature");
        writeln!(text, "[[route]]\nname = \"n{number}\"\nmatch = \"{pattern}\"\nto = \"door\"")
            .unwrap();
    }
    text.push_str("[[test]]\nname = \"t\"\nfrom = \"door\"\naddress = \"a\"\nexpect = []\n");
    let loaded = check(&text);
    let configuration = loaded.configuration.unwrap();
    let names = configuration.routes.iter().map(|route| route.name.to_string());
    assert!(names.eq((0..ROUTES).map(|number| format!("n{number}"))));
    assert_eq!(configuration.tests[0].line, 6 + 4 * ROUTES + 1);
}

#[test]
fn a_large_file_that_cannot_be_cut_is_read_as_a_whole() {
    for (behind, expected) in [
        ("[[route]]\nname = \"\"\"\n[[route]]\n\"\"\"\nto = \"door\"\n", "cannot be the name"),
        ("[[route]]\nname = \"x\nto = \"door\"\n", "invalid basic string"),
        ("[adapters.door]\nkind = \"door\"\n", "duplicate key"),
        ("[gateway]\nx = 1\n[[route]]\nname = 1\n", "expected a string"),
        ("[route.x]\n[[route]]\nname = 1\n", "expected a string"),
    ] {
        let found = findings(&check(&file("[[route]]", behind)));
        assert!(found.iter().any(|found| found.contains(expected)), "{expected}: {found:?}");
        let lines = file("[[route]]", "").lines().count();
        let line_of = |found: &str| found.split_once(':').and_then(|(line, _)| line.parse().ok());
        let behind = |found: &String| line_of(found).is_some_and(|line: usize| line > lines);
        assert!(found.iter().any(behind), "{found:?}");
    }
}
