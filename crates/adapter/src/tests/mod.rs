mod fake;
mod receipt;
mod registry;
