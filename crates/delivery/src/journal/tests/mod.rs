//! Tests with a disk that can fail and forget.

mod faults;
mod model;
mod sim;
