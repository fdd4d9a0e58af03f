//! What clients may publish and subscribe to.

use schemars::JsonSchema;
use serde::Deserialize;
use transload_adapter::Lint;
use transload_envelope::Text;
use transload_routing::Pattern;

/// What some of the clients may do. A client may do what any entry that is for it allows; where
/// there are entries, a client that none is for is not let in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Permission {
    /// The users that it is for; `*` stands for any text. Without it, everybody who is let in,
    /// clients without a user included.
    #[serde(default)]
    pub users: Option<Vec<String>>,

    /// The client identifiers that it is for, such as "{user}" or "{user}-*". Without it, any.
    #[serde(default)]
    pub client_ids: Option<Vec<String>>,

    /// The topics that they may publish under, as filters with `{user}` and `{client_id}`, such as
    /// "devices/{user}/#".
    #[serde(default)]
    pub publish: Vec<String>,

    /// What they may subscribe to, as such filters. A subscription is granted when one of them
    /// covers all of it.
    #[serde(default)]
    pub subscribe: Vec<String>,
}

/// What one client may do.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::listener) struct Permit(Option<Allowed>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Allowed {
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
}

impl Permit {
    #[cfg(test)]
    pub(in crate::listener) const EVERYTHING: Self = Self(None);

    /// Whether the client may publish under this topic.
    pub(in crate::listener) fn may_publish(&self, topic: &str) -> bool {
        let allows = |pattern: &Pattern| pattern.matches(topic).is_some();
        self.0.as_ref().is_none_or(|allowed| allowed.publish.iter().any(allows))
    }

    /// Whether the client may subscribe to this filter.
    pub(in crate::listener) fn may_subscribe(&self, filter: &Pattern) -> bool {
        let allows = |pattern: &Pattern| pattern.covers(filter);
        self.0.as_ref().is_none_or(|allowed| allowed.subscribe.iter().any(allows))
    }

    /// Whether the client may have a message of this topic.
    pub(in crate::listener) fn may_receive(&self, topic: &str) -> bool {
        let allows = |pattern: &Pattern| pattern.matches(topic).is_some();
        self.0.as_ref().is_none_or(|allowed| allowed.subscribe.iter().any(allows))
    }
}

/// The permissions of a listener.
#[derive(Clone, Debug)]
pub(super) struct Permissions(Vec<Permission>);

impl Permissions {
    pub(super) fn new(entries: &[Permission]) -> Self {
        Self(entries.to_vec())
    }

    /// What this client may do; `None` when no entry is for it.
    pub(super) fn permit(&self, user: Option<&Text>, client_id: &Text) -> Option<Permit> {
        if self.0.is_empty() {
            return Some(Permit(None));
        }
        let who = Who { user, client_id };
        let mut allowed: Option<Allowed> = None;
        for entry in self.0.iter().filter(|entry| who.is_meant_by(entry)) {
            let Allowed { publish, subscribe } = allowed.get_or_insert_default();
            publish.extend(entry.publish.iter().filter_map(|filter| who.pattern(filter)));
            subscribe.extend(entry.subscribe.iter().filter_map(|filter| who.pattern(filter)));
        }
        allowed.map(|allowed| Permit(Some(allowed)))
    }
}

/// A client, as the entries see it.
#[derive(Clone, Copy, Debug)]
struct Who<'a> {
    user: Option<&'a Text>,
    client_id: &'a Text,
}

impl Who<'_> {
    fn is_meant_by(&self, entry: &Permission) -> bool {
        let by_user = entry.users.as_ref().is_none_or(|wanted| {
            self.user.is_some_and(|user| wanted.iter().any(|wanted| matches_glob(wanted, user)))
        });
        let by_client_id = entry.client_ids.as_ref().is_none_or(|wanted| {
            wanted.iter().any(|wanted| {
                // A user's name is not to bring a `*` of its own.
                wanted.split("{user}").count() == 1 && matches_glob(wanted, self.client_id)
                    || self.user.is_some_and(|user| self.is_client_of(wanted, user))
            })
        });
        by_user && by_client_id
    }

    fn is_client_of(&self, wanted: &str, user: &str) -> bool {
        !user.contains('*') && matches_glob(&wanted.replace("{user}", user), self.client_id)
    }

    /// The filter with the client's names in it; `None` when a name is none that a level can hold.
    fn pattern(&self, filter: &str) -> Option<Pattern> {
        let mut filled = String::with_capacity(filter.len());
        let mut rest = filter;
        while let Some(start) = rest.find('{') {
            let (text, placeholder) = rest.split_at(start);
            filled.push_str(text);
            let (name, behind) = [("{user}", self.user), ("{client_id}", Some(self.client_id))]
                .into_iter()
                .find_map(|(placeholder_is, name)| {
                    Some((name?, placeholder.strip_prefix(placeholder_is)?))
                })?;
            if name.is_empty() || name.contains(['/', '+', '#', '\0']) {
                return None;
            }
            filled.push_str(name);
            rest = behind;
        }
        filled.push_str(rest);
        Pattern::parse_filter(&filled).ok()
    }
}

/// Whether a text is of the form of a pattern in which `*` stands for any text.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Checks what the types cannot.
pub(in crate::listener) fn lint(entries: &[Permission], identified: bool) -> Vec<Lint> {
    let mut lints = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let at = |key: &str| format!("permissions.{number}.{key}");
        for (key, filters) in [("publish", &entry.publish), ("subscribe", &entry.subscribe)] {
            for (place, filter) in filters.iter().enumerate() {
                if let Some(fault) = fault_of(filter) {
                    lints.push(Lint::error(format!("{}.{place}", at(key)), fault));
                }
            }
        }
        if entry.users.is_some() && !identified {
            lints.push(
                Lint::error(at("users"), "clients are not asked who they are, so no user is known")
                    .with_help("name a `users_file`, or leave `users` out"),
            );
        }
        let says_client_id = |filter: &String| filter.contains("{client_id}");
        let free = entry.client_ids.as_ref().is_none_or(|ids| ids.iter().any(|id| id == "*"));
        if free && entry.publish.iter().chain(&entry.subscribe).any(says_client_id) {
            lints.push(
                Lint::warning(
                    format!("permissions.{number}"),
                    "`{client_id}` is what a client says of itself, and any client can say any",
                )
                .with_help("use `{user}`, or bind the names with `client_ids = [\"{user}\"]`"),
            );
        }
    }
    lints
}

fn fault_of(filter: &str) -> Option<String> {
    let name = Text::from_static("x");
    let filled = Who { user: Some(&name), client_id: &name }.pattern(filter);
    if filled.is_some() {
        return None;
    }
    let plain = filter.replace("{user}", "x").replace("{client_id}", "x");
    if plain.contains('{') {
        return Some(format!("`{filter}`: only `{{user}}` and `{{client_id}}` can be filled in"));
    }
    let fault = Pattern::parse_filter(&plain).err().map_or_else(String::new, |e| e.to_string());
    Some(format!("`{filter}` is no topic filter: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permissions(text: &str) -> Permissions {
        #[derive(Deserialize)]
        struct Settings {
            permissions: Vec<Permission>,
        }
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(lint(&settings.permissions, true).first(), None);
        Permissions::new(&settings.permissions)
    }

    #[test]
    fn without_entries_everything_is_allowed() {
        let permit = Permissions::new(&[]).permit(None, &"c".into()).unwrap();
        assert_eq!(permit, Permit::EVERYTHING);
        assert!(permit.may_publish("a") && permit.may_receive("a"));
    }

    #[test]
    fn entries_add_up_and_nothing_else_is_allowed() {
        let permissions = permissions(
            r#"
            [[permissions]]
            subscribe = ["public/#"]
            [[permissions]]
            users = ["sensor-*"]
            client_ids = ["{user}", "{user}-*"]
            publish = ["devices/{user}/+/up"]
            subscribe = ["devices/{user}/#", "by-client/{client_id}"]
            "#,
        );
        let permit = |user: Option<&str>, client_id: &str| {
            permissions.permit(user.map(Text::from).as_ref(), &client_id.into()).unwrap()
        };
        let sensor = permit(Some("sensor-1"), "sensor-1-b");
        for (topic, allowed) in [
            ("devices/sensor-1/x/up", true),
            ("devices/sensor-1/up", false),
            ("devices/sensor-2/x/up", false),
            ("public/x", false),
            ("$SYS/x", false),
        ] {
            assert_eq!(sensor.may_publish(topic), allowed, "{topic}");
        }
        for (filter, allowed) in [
            ("public/#", true),
            ("public/+/x", true),
            ("public/{user}", true),
            ("devices/sensor-1/#", true),
            ("devices/+/#", false),
            ("by-client/sensor-1-b", true),
            ("by-client/+", false),
            ("#", false),
            ("+/#", false),
        ] {
            let filter = Pattern::parse_filter(filter).unwrap();
            assert_eq!(sensor.may_subscribe(&filter), allowed, "{filter}");
        }
        assert!(sensor.may_receive("public") && !sensor.may_receive("private"));
        for (user, client_id) in
            [(None, "sensor-1"), (Some("other"), "other"), (Some("sensor-1"), "sensor-2")]
        {
            let permit = permit(user, client_id);
            assert!(permit.may_receive("public/x"));
            assert!(!permit.may_receive("devices/sensor-1/x"), "{user:?} {client_id}");
            assert!(!permit.may_publish("devices/sensor-1/x/up"), "{user:?} {client_id}");
        }
    }

    #[test]
    fn who_no_entry_is_for_is_not_let_in() {
        let permissions = permissions("[[permissions]]\nusers = [\"a\"]\npublish = [\"#\"]");
        assert!(permissions.permit(Some(&"a".into()), &"c".into()).is_some());
        assert!(permissions.permit(Some(&"b".into()), &"c".into()).is_none());
        assert!(permissions.permit(None, &"a".into()).is_none());
    }

    #[test]
    fn names_never_become_wildcards_or_levels() {
        let permissions = permissions(
            r#"
            [[permissions]]
            client_ids = ["{user}", "fixed"]
            publish = ["d/{client_id}", "u/{user}", "d/x{client_id}"]
            "#,
        );
        for name in ["#", "+", "a/b", "a#", "{user}", "{client_id}"] {
            let user = Text::from(name);
            let permit = permissions.permit(Some(&user), &user).unwrap();
            for topic in ["d/a", "d/a/b", "u/a", "u/a/b", "d/xa", "d/x"] {
                assert!(!permit.may_publish(topic), "{name} {topic}");
            }
        }
        // A user's star does not open other identifiers.
        assert!(permissions.permit(Some(&"*".into()), &"other".into()).is_none());
        assert!(permissions.permit(None, &"fixed".into()).is_some());
        assert!(permissions.permit(None, &"{user}".into()).is_none());
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("ab*bc", "abc", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c", false),
        ] {
            assert_eq!(matches_glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn faults_name_their_place() {
        let entry = |publish: &str, users: Option<&str>| Permission {
            users: users.map(|user| vec![user.into()]),
            publish: vec!["ok/#".into(), publish.into()],
            ..Permission::default()
        };
        for (publish, users, path) in [
            ("a/{user}", None, None),
            ("a/{device}", None, Some("permissions.0.publish.1")),
            ("a/#/b", None, Some("permissions.0.publish.1")),
            ("", None, Some("permissions.0.publish.1")),
            ("a/{client_id}", None, Some("permissions.0")),
        ] {
            let found = lint(&[entry(publish, users)], true);
            assert_eq!(found.first().map(|lint| &*lint.path), path, "{publish}");
        }
        let found = lint(&[entry("a", Some("u"))], false);
        assert_eq!(found.first().map(|lint| &*lint.path), Some("permissions.0.users"));
    }
}
