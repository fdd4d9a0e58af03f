//! Who is let in, and what they may do.
//!
//! Invariants:
//! - Nobody has a session, hears a message or has one taken before [`Access::admit`] has let them
//!   in; what they may do then is a value of their connection, the [`Permit`].
//! - A password is checked off the threads that serve devices, and only so many at once: a flood of
//!   logins makes logins wait, and nothing else.
//! - What a client says of itself (its client identifier, its user name) never becomes a wildcard
//!   or a further level of a pattern.
//! - A faulty users file is never taken: the last good one stays.

mod login;
mod permissions;
mod users;
mod watch;

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use transload_envelope::Text;
use transload_listen::ClientIdentity;

use self::{
    login::{Logins, Verdict},
    permissions::Permissions,
    users::Users,
};
pub use self::{permissions::Permission, users::hash_line};
pub(super) use self::{
    permissions::{Permit, lint as lint_permissions},
    watch::{reload, watch},
};
use super::config::{CertificateUser, Config};
use crate::codec::{Fault, Reason};

/// What a client offers to be let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credentials<'a> {
    pub(super) client_id: &'a Text,
    /// Of its certificate, where it has shown one.
    pub(super) identity: Option<&'a ClientIdentity>,
    pub(super) username: Option<&'a Text>,
    pub(super) password: Option<&'a Bytes>,
}

const NOT_AUTHORIZED: Fault = Fault::new(Reason::NOT_AUTHORIZED, "this client is not let in");
const WRONG: Fault =
    Fault::new(Reason::BAD_USER_NAME_OR_PASSWORD, "the user name or the password is wrong");

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    /// Who it is, where that was proved.
    pub(super) user: Option<Text>,
    /// Whether the users file says so, so that it can take it back.
    pub(super) by_password: bool,
    pub(super) permit: Arc<Permit>,
}

/// Checks a users file; the error says what is wrong, and where.
pub(super) fn check_users(file: &Path) -> Result<(), Text> {
    Users::read(file).map(drop)
}

/// The rules of a listener.
#[derive(Debug)]
pub(super) struct Access {
    /// Absent when nobody is asked who they are.
    users: Option<RwLock<Arc<Users>>>,
    /// Whether clients are asked who they are at all.
    asks: bool,
    anonymous: bool,
    certificate_user: CertificateUser,
    permissions: Permissions,
    logins: Logins,
}

impl Access {
    /// Reads the users; the error says what is wrong with their file, and where.
    pub(super) fn open(config: &Config, tasks: &TaskTracker) -> Result<Self, Text> {
        let users = match &config.users_file {
            Some(file) => Some(RwLock::new(Arc::new(Users::read(file)?))),
            None => None,
        };
        Ok(Self {
            users,
            asks: config.asks(),
            anonymous: config.anonymous,
            certificate_user: config.certificate_user,
            permissions: Permissions::new(&config.permissions),
            logins: Logins::new(config.max_logins, tasks.clone()),
        })
    }

    /// Decides whether a client is let in, and as whom.
    pub(super) async fn admit(&self, offered: Credentials<'_>) -> Result<Admitted, Fault> {
        let user = match (offered.identity, self.users(), offered.username) {
            _ if !self.asks => None,
            (Some(identity), ..) => Some(self.named(identity, offered.username)?),
            (None, Some(users), Some(name)) => {
                let password = offered.password.cloned().unwrap_or_default();
                Some(self.login(users, name, password).await?)
            }
            (None, None, Some(_)) | (None, _, None) if self.anonymous => None,
            (None, _, _) => return Err(NOT_AUTHORIZED),
        };
        let permit = self.permissions.permit(user.as_ref(), offered.client_id);
        let by_password = user.is_some() && offered.identity.is_none();
        Ok(Admitted { user, by_password, permit: Arc::new(permit.ok_or(NOT_AUTHORIZED)?) })
    }

    async fn login(&self, users: Arc<Users>, name: &Text, password: Bytes) -> Result<Text, Fault> {
        match self.logins.check(users, name, password).await {
            Verdict::Proved => Ok(name.clone()),
            Verdict::Wrong => Err(WRONG),
            Verdict::Busy => {
                Err(Fault::new(Reason::SERVER_BUSY, "too many clients are logging in"))
            }
        }
    }

    /// The user that a certificate names. A user name beside it must be the same.
    fn named(&self, identity: &ClientIdentity, username: Option<&Text>) -> Result<Text, Fault> {
        let name = match self.certificate_user {
            CertificateUser::CommonName => identity.common_name.as_deref(),
            CertificateUser::AlternativeName => {
                identity.alternative_names.first().map(String::as_str)
            }
            CertificateUser::Subject => Some(&*identity.subject),
        };
        let name = name.filter(|name| !name.is_empty() && !name.contains('\0'));
        let name = Text::from(name.ok_or(NOT_AUTHORIZED)?);
        if username.is_some_and(|said| *said != name) { Err(WRONG) } else { Ok(name) }
    }

    /// Whether this user, who came in by a password, may still be here.
    pub(super) fn knows(&self, user: &Text) -> bool {
        self.users().is_none_or(|users| users.contains(user))
    }

    /// Takes other users from now on.
    fn replace(&self, users: Users) {
        if let Some(current) = &self.users {
            let mut current = current.write().unwrap_or_else(PoisonError::into_inner);
            *current = Arc::new(users.succeed(&current));
        }
    }

    fn users(&self) -> Option<Arc<Users>> {
        let users = self.users.as_ref()?;
        Some(Arc::clone(&users.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
