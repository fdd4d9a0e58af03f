//! `transload check`

use std::{io, path::Path};

use transload_gateway::config::{Loaded, load_with_tests, overview};

use crate::{
    adapters,
    arguments::{CheckArguments, ReportFormat},
    colored, environment,
    exit::Outcome,
    print,
};

/// Shows the findings about a file, and what it amounts to.
pub(crate) fn check(path: &Path, how: &CheckArguments) -> Outcome {
    let Loaded { configuration, mut report, .. } =
        load_with_tests(path, &environment, &adapters::registry());
    if how.strict {
        report.be_strict();
    }
    match how.format {
        ReportFormat::Json => print(&format!("{:#}\n", report.to_json())),
        ReportFormat::Text => {
            print(&report.render(colored(&io::stdout())));
            if let (Some(configuration), 0) = (configuration, report.errors()) {
                if !report.findings.is_empty() {
                    print("\n");
                }
                print(&overview(&configuration));
                print(&format!("\n`{}` is in order: {}\n", path.display(), report.summary()));
            }
        }
    }
    if report.errors() == 0 { Outcome::Well } else { Outcome::Faults }
}
