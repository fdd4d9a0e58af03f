//! `transload schema`

use crate::{adapters, exit::Outcome, print};

/// Prints the JSON Schema of the rules file.
pub(crate) fn schema() -> Outcome {
    print(&format!("{:#}\n", transload_gateway::config::schema(&adapters::registry())));
    Outcome::Well
}
