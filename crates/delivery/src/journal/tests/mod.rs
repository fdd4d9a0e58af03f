//! Tests with a disk that can fail and forget.
#![expect(clippy::disallowed_methods, reason = "a test may block its thread")]

mod faults;
mod model;
mod sim;
