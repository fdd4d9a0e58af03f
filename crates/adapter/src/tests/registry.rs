use toml::{
    Spanned,
    de::{DeTable, Error},
};
use transload_envelope::{Arguments, Envelope, Origin, Outgoing};

use crate::{
    Lint, Prepared, Registry, SelectError, SendError, Sent,
    testing::{Fake, Reaction, Script, context},
};

fn table(text: &str) -> Spanned<DeTable<'static>> {
    let mut table = DeTable::parse(text.to_owned().leak()).unwrap();
    table.get_mut().remove("kind");
    table
}

fn prepare(text: &str) -> Result<(Box<dyn Prepared>, Vec<Lint>), Error> {
    let registry = Registry::default().with::<Fake>();
    let table = table(text);
    let role = registry.select("fake", table.get_ref()).unwrap();
    role.prepare(&table)
}

#[test]
fn unknown_kinds_are_named_with_the_known_ones() {
    let registry = Registry::default().with::<Fake>();
    let error = registry.select("smtp", table("").get_ref()).err().unwrap();
    assert_eq!(error, SelectError::UnknownKind { known: vec!["fake"] });
}

#[test]
fn a_kind_without_its_role_key_is_no_role() {
    let registry = Registry::default().with::<Fake>();
    let error = registry.select("fake", table("sends = true").get_ref()).err().unwrap();
    assert!(matches!(error, SelectError::NoRole { keys } if keys[0].0 == "script"));
}

#[test]
fn two_role_keys_are_two_roles() {
    let registry = Registry::default().with::<Fake>().with::<Fake>();
    let error = registry.select("fake", table("script = 'x'").get_ref()).err().unwrap();
    assert!(matches!(error, SelectError::TwoRoles { .. }));
}

#[test]
fn an_unknown_key_is_an_error_at_its_place() {
    let text = "script = 'x'\nreceive = true\n";
    let error = prepare(text).err().unwrap();
    assert!(error.message().contains("unknown field `receive`"), "{error}");
    assert_eq!(&text[error.span().unwrap()], "receive");
}

#[test]
fn lints_come_with_the_settings() {
    let (_, lints) = prepare("script = 'nobody'").unwrap();
    assert_eq!(lints.len(), 1);
    assert_eq!(lints[0].path, "script");
}

#[tokio::test]
async fn a_prepared_adapter_sends_by_the_targets_settings_and_arguments() {
    let script = Script::new();
    let (prepared, lints) = prepare(&script.settings()).unwrap();
    assert_eq!(lints, []);
    let endpoints = prepared.connect(context("f", 1)).await.unwrap();
    let outbound = endpoints.outbound.unwrap();
    let target = prepared.prepare_target(&table("key = 'fixed'")).unwrap().target;
    let envelope = Envelope::new(Origin::new("a", "fake", "x"), "body");
    let plain = Outgoing { envelope, arguments: Arguments::default() };
    let mut filled = plain.clone();
    filled.arguments.push("key", "made");
    script.react([Reaction::Confirm, Reaction::NoReceiver]);
    let results = outbound.send("d", &target, &[plain, filled]).await;
    assert!(matches!(results[..], [Ok(Sent::Confirmed), Ok(Sent::NoReceiver)]), "{results:?}");
    let keys: Vec<_> = script.taken().into_iter().map(|sent| sent.key.unwrap()).collect();
    assert_eq!(keys, ["fixed", "made"]);
}

#[tokio::test]
async fn a_target_of_another_kind_is_rejected() {
    let script = Script::new();
    let (prepared, _) = prepare(&script.settings()).unwrap();
    let outbound = prepared.connect(context("f", 1)).await.unwrap().outbound.unwrap();
    let foreign = crate::registry::any_target(7_u8);
    let envelope = Envelope::new(Origin::new("a", "fake", "x"), "body");
    let batch = [Outgoing { envelope, arguments: Arguments::default() }];
    let results = outbound.send("d", &foreign, &batch).await;
    assert!(matches!(results[..], [Err(SendError::Rejected { .. })]), "{results:?}");
}
