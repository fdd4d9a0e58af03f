//! `transload hash-password`

use std::io::{self, BufRead as _, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{exit::Outcome, print, print_error};

/// How long a password may be, in bytes: what fits into CONNECT.
const PASSWORD_BYTES_MAX: usize = 65_535;

/// Prints a line of a users file for the password on standard input.
pub(crate) fn hash_password(name: &str) -> Outcome {
    let made = read_password(name).and_then(|password| {
        transload_adapter_mqtt::hash_line(name, password.as_bytes()).map(|line| format!("{line}\n"))
    });
    match made {
        Ok(line) => {
            print(&line);
            Outcome::Well
        }
        Err(fault) => {
            print_error(&format!("error: {fault}\n"));
            Outcome::NotUnderstood
        }
    }
}

fn read_password(name: &str) -> Result<String, String> {
    let stdin = io::stdin();
    let hidden = if stdin.is_terminal() {
        print_error(&format!("Password of {name} (is not shown): "));
        Hidden::new(&stdin)
    } else {
        None
    };
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    drop(hidden);
    read.map_err(|error| format!("cannot read the password: {error}"))?;
    let password = line.strip_suffix('\n').unwrap_or(&line);
    let password = password.strip_suffix('\r').unwrap_or(password);
    if password.is_empty() {
        return Err("the password is empty".into());
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err("MQTT takes no password over 65,535 bytes".into());
    }
    Ok(password.to_owned())
}

/// While it lives, the terminal does not show what is typed.
struct Hidden<'a>(&'a io::Stdin, Termios);

impl<'a> Hidden<'a> {
    fn new(stdin: &'a io::Stdin) -> Option<Self> {
        let before = tcgetattr(stdin).ok()?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Now, &hidden).ok()?;
        Some(Self(stdin, before))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // A terminal that has gone away needs nothing back.
        let _ = tcsetattr(self.0, OptionalActions::Now, &self.1);
        print_error("\n");
    }
}
