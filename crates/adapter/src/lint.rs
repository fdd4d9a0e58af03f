/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The gateway does not start with it.
    Error,
    /// The gateway starts; somebody should look.
    Warning,
}

/// A finding about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// Path of the setting below the table that was checked, its parts separated by `.`, elements
    /// of arrays by their number: `consume.0.queue`. Empty for the table as a whole.
    pub path: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// How to cure it, in one sentence without a full stop.
    pub help: Option<String>,
}

impl Lint {
    /// A finding that keeps the gateway from starting.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), severity: Severity::Error, message: message.into(), help: None }
    }

    /// A finding that somebody should look at.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, message) }
    }

    /// Adds the cure.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
