mod conformance;
mod fake;
mod receipt;
mod registry;
