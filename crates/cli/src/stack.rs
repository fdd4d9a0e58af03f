//! Stacks that are large enough for what a peer may nest.
//!
//! The AMQP library decodes header tables by recursion, without a bound of its own, in a thread
//! whose stack it leaves to the standard library. A header of 64 KiB, the largest that we let a
//! broker send, can nest 13,000 arrays, which the usual 2 MiB do not hold; the overflow would end
//! the process, and the message would come again at the next start. The standard library takes the
//! size for such threads from `RUST_MIN_STACK`, which a process cannot safely set for itself, so it
//! is set for a fresh image of the same process. Stacks are reserved and not used: what a thread
//! does not touch costs no memory.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use crate::environment;

const VARIABLE: &str = "RUST_MIN_STACK";

/// For threads of libraries, in bytes. Without optimization a level takes between 8 and 30 KiB,
/// with it about 1 KiB.
const LIBRARY_STACK_BYTES: usize = if cfg!(debug_assertions) { 512 << 20 } else { 96 << 20 };

/// What glibc's allocator is told on the same occasion: to give freed memory back. Each attempt to
/// connect to a broker that is away would otherwise leave megabytes of free memory behind.
const TRIM: (&str, &str) = ("MALLOC_TRIM_THRESHOLD_", "131072");

/// For the runtime's threads, in bytes: decoded tables are dropped there, by recursion too.
pub(crate) const RUNTIME_STACK_BYTES: usize = 16 << 20;

/// Starts the program over with large stacks, unless it has them. Returns only if that fails.
pub(crate) fn ensure() -> Result<(), io::Error> {
    if is_enough(environment(VARIABLE).as_deref()) {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command.args(arguments.skip(1)).env(VARIABLE, LIBRARY_STACK_BYTES.to_string());
    if environment(TRIM.0).is_none() {
        command.env(TRIM.0, TRIM.1);
    }
    Err(command.exec())
}

/// Whether the stacks of libraries are large enough with this value of the variable. What is no
/// number counts for nothing with the standard library too.
fn is_enough(value: Option<&str>) -> bool {
    value
        .and_then(|bytes| bytes.parse().ok())
        .is_some_and(|bytes: usize| bytes >= LIBRARY_STACK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_size_of_somebody_else_is_not_enough() {
        let enough = LIBRARY_STACK_BYTES.to_string();
        let more = (LIBRARY_STACK_BYTES + 1).to_string();
        for (value, expected) in [
            (None, false),
            (Some(""), false),
            (Some("many"), false),
            (Some("2097152"), false),
            (Some(&*enough), true),
            (Some(&*more), true),
        ] {
            assert_eq!(is_enough(value), expected, "{value:?}");
        }
    }
}
