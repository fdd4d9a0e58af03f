use super::rig::{RESPONDERS, Rig, call};

/// A thousand callers of four protocols wait at once, and each gets its own answer.
#[tokio::test]
async fn a_thousand_callers_get_their_own_answers() {
    let case = "many";
    let rig = Rig::start(case).await;
    let callers = ["web", "nats", "amqp", "devices", "broker"];
    let calls: Vec<_> = (0..1000)
        .map(|number| {
            let caller = callers[number % callers.len()];
            let responder = RESPONDERS[number / callers.len() % RESPONDERS.len()];
            (responder, call(case, caller, responder, &format!("say {number}")))
        })
        .collect();
    let made: Vec<_> = calls.iter().map(|(_, call)| call.clone()).collect();
    let answers = rig.call(&made).await;
    assert_eq!(answers.len(), calls.len());
    for (number, ((responder, _), answer)) in calls.iter().zip(&answers).enumerate() {
        assert_eq!(answer.text(), format!("{number} by {responder}"), "{answer:?}");
        assert_eq!(answer.0["own"], true);
    }
}
