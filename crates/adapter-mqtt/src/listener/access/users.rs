//! The users file: one user a line, `NAME:HASH`, where the hash is argon2's in PHC form. Empty lines
//! and lines that start with `#` are left out.

use std::{
    collections::HashMap,
    io::Read as _,
    path::Path,
    sync::{Mutex, PoisonError},
};

use argon2::{
    Argon2, PasswordHash, PasswordHasher as _, PasswordVerifier as _,
    password_hash::{
        SaltString,
        rand_core::{OsRng, RngCore as _},
    },
};
use blake2::{
    Blake2sMac256,
    digest::{FixedOutput as _, KeyInit, Mac as _, Update as _},
};
use transload_envelope::Text;

/// How large a users file may be, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How much memory the check of one password may take, in KiB.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// How often the check of one password may go over that memory.
const PASSES_MAX: u32 = 64;

/// Users and their passwords' hashes.
#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<Text, Box<str>>,
    known: Known,
}

/// Passwords that were found right, as keyed digests that mean nothing outside this process: a
/// fleet that reconnects is not to wait for ten thousand slow checks.
struct Known {
    key: [u8; 32],
    digests: Mutex<HashMap<Text, [u8; 32]>>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file; the error says what is wrong, where, and how to cure it.
    pub(super) fn read(file: &Path) -> Result<Self, Text> {
        let failed = |error: std::io::Error| -> Text {
            format!("cannot read the users file {}: {error}", file.display()).into()
        };
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(failed)?;
        let read = opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        if read as u64 > FILE_BYTES_MAX {
            return Err(format!("the users file {} is over 64 MiB", file.display()).into());
        }
        Self::parse(&text)
            .map_err(|fault| format!("{}:{}:{fault}", file.display(), fault.line).into())
    }

    fn parse(text: &str) -> Result<Self, LineFault> {
        let mut hashes = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = |column, what| LineFault { line: number + 1, column, what };
            let Some((name, hash)) = line.split_once(':') else {
                return Err(fault(
                    1,
                    "a line is NAME:HASH; `transload hash-password NAME` makes one",
                ));
            };
            if name.is_empty() || name.contains('\0') {
                return Err(fault(1, "the user has no name"));
            }
            let hash = hash.trim_end();
            let column = name.chars().count() + 2;
            check_hash(hash).map_err(|what| fault(column, what))?;
            if hashes.insert(Text::from(name), Box::from(hash)).is_some() {
                return Err(fault(1, "the user stands in the file twice; remove one of the lines"));
            }
        }
        let mut key = [0; 32];
        OsRng.fill_bytes(&mut key);
        Ok(Self { hashes, known: Known { key, digests: Mutex::default() } })
    }

    /// Takes over what is known of users whose hash has not changed.
    pub(super) fn succeed(mut self, before: &Self) -> Self {
        let digests = before.known.digests();
        let same = digests.iter().filter(|(name, _)| {
            self.hashes.contains_key(*name) && self.hashes.get(*name) == before.hashes.get(*name)
        });
        let digests = same.map(|(name, digest)| (name.clone(), *digest)).collect();
        self.known = Known { key: before.known.key, digests: Mutex::new(digests) };
        self
    }

    pub(super) fn contains(&self, name: &Text) -> bool {
        self.hashes.contains_key(name)
    }

    /// Whether this password was found right before.
    pub(super) fn remembers(&self, name: &Text, password: &[u8]) -> bool {
        let digest = self.known.digests().get(name).copied();
        digest.is_some_and(|digest| {
            let Some(mac) = self.known.mac(name, password) else { return false };
            // In constant time.
            mac.verify_slice(&digest).is_ok()
        })
    }

    /// Checks a password. Slow on purpose, as slow for a user that is not there, and blocks.
    pub(super) fn verify(&self, name: &Text, password: &[u8]) -> bool {
        /// The form that [`hash_line`] makes, of a password that nobody has.
        const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5aGFzdGhpcw$\
                              AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let hash = self.hashes.get(name);
        let stated = PasswordHash::new(hash.map_or(NOBODY, |hash| hash));
        let right =
            stated.is_ok_and(|stated| Argon2::default().verify_password(password, &stated).is_ok());
        if right && hash.is_some() {
            if let Some(mac) = self.known.mac(name, password) {
                self.known.digests().insert(name.clone(), mac.finalize_fixed().into());
            }
            return true;
        }
        false
    }
}

impl Known {
    fn mac(&self, name: &Text, password: &[u8]) -> Option<Blake2sMac256> {
        let mac = <Blake2sMac256 as KeyInit>::new_from_slice(&self.key).ok()?;
        // The length keeps a name and a password apart.
        Some(mac.chain(name.len().to_be_bytes()).chain(name.as_bytes()).chain(password))
    }

    fn digests(&self) -> std::sync::MutexGuard<'_, HashMap<Text, [u8; 32]>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is wrong with a line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{column}: {what}")]
struct LineFault {
    line: usize,
    column: usize,
    what: &'static str,
}

fn check_hash(hash: &str) -> Result<(), &'static str> {
    const NONE: &str = "this is no argon2 hash; `transload hash-password NAME` makes one";
    let hash = PasswordHash::new(hash).map_err(|_| NONE)?;
    if argon2::Algorithm::try_from(hash.algorithm).is_err() || hash.hash.is_none() {
        return Err(NONE);
    }
    let params = argon2::Params::try_from(&hash).map_err(|_| NONE)?;
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > PASSES_MAX {
        return Err("the hash takes more than 256 MiB or 64 passes to check; make another one");
    }
    Ok(())
}

/// A line of the users file for a user and a password. Slow on purpose.
pub fn hash_line(name: &str, password: &[u8]) -> Result<String, String> {
    if name.is_empty() || name.starts_with('#') || name.contains([':', '\n', '\r', '\0']) {
        return Err("a user's name is not empty, has no `:` and does not start with `#`".into());
    }
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password, &salt);
    hash.map(|hash| format!("{name}:{hash}")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password `secret`, cheap to check.
    pub(crate) const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1";

    fn cheap(password: &str) -> String {
        let params = argon2::Params::new(8, 1, 1, None).unwrap();
        let argon2 = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let salt = SaltString::generate(&mut OsRng);
        let hash = argon2.hash_password(password.as_bytes(), &salt).unwrap().to_string();
        assert!(hash.starts_with(CHEAP), "{hash}");
        hash
    }

    #[test]
    fn only_the_right_password_of_a_known_user_is_right() {
        let text = format!("# users\n\na:{}\nb:{}\r\n", cheap("secret"), cheap("other"));
        let users = Users::parse(&text).unwrap();
        for (name, password, right) in [
            ("a", "secret", true),
            ("a", "Secret", false),
            ("a", "secret\0", false),
            ("a", "", false),
            ("a", "other", false),
            ("b", "other", true),
            ("c", "secret", false),
            ("", "secret", false),
        ] {
            let name = Text::from(name);
            assert!(!users.remembers(&name, b"secret") || &*name == "a");
            assert_eq!(users.verify(&name, password.as_bytes()), right, "{name} {password}");
            assert_eq!(users.remembers(&name, password.as_bytes()), right, "{name} {password}");
        }
    }

    #[test]
    fn what_is_known_goes_with_the_hash() {
        let (a, b) = (cheap("a"), cheap("b"));
        let before = Users::parse(&format!("a:{a}\nb:{b}\ngone:{b}")).unwrap();
        for (name, password) in [("a", "a"), ("b", "b"), ("gone", "b")] {
            assert!(before.verify(&name.into(), password.as_bytes()));
        }
        let after = Users::parse(&format!("a:{a}\nb:{}", cheap("new"))).unwrap().succeed(&before);
        assert!(after.remembers(&"a".into(), b"a"));
        assert!(!after.remembers(&"b".into(), b"b"), "the password was changed");
        assert!(!after.remembers(&"gone".into(), b"b") && !after.contains(&"gone".into()));
    }

    #[test]
    fn faults_have_their_place() {
        let hash = cheap("x");
        for (text, line, column) in [
            ("a", 1, 1),
            ("# a\n\n:x", 3, 1),
            ("user:plain", 1, 6),
            ("user:$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW", 1, 6),
            ("user:$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$aGFzaGhhc2hoYXNo", 1, 6),
            (&format!("a:{hash}\nb:{hash}\na:{hash}"), 3, 1),
        ] {
            let fault = Users::parse(text).unwrap_err();
            assert_eq!((fault.line, fault.column), (line, column), "{text}: {fault}");
        }
    }

    #[test]
    fn a_line_that_is_made_is_a_line_that_is_read() {
        let line = hash_line("pump-1", b"pass word").unwrap();
        assert!(Users::parse(&line).unwrap().verify(&"pump-1".into(), b"pass word"));
        assert!(hash_line("a:b", b"x").is_err() && hash_line("", b"x").is_err());
    }
}
