use transload_integration_tests::{curl, wait::until};

use super::rig::{CALLERS, RESPONDERS, Rig, call};

/// Every caller is told, in its own protocol, that nobody answered, and at once where nobody is
/// there; what comes too late reaches nobody and is counted.
#[tokio::test]
async fn every_caller_is_told_why_there_is_no_reply() {
    let case = "failures";
    let rig = Rig::start(case).await;
    let nobody = ["nats", "amqp", "devices", "broker", "http"];
    let mut calls = Vec::new();
    for caller in CALLERS {
        calls.extend(nobody.map(|to| call(case, caller, &format!("{to}-nobody"), "say hi")));
        calls.extend(RESPONDERS.map(|to| call(case, caller, &format!("{to}-short"), "late hi")));
    }
    let started = std::time::Instant::now();
    let answers = rig.call(&calls).await;
    assert!(started.elapsed().as_secs() < 12, "those without a responder have not waited");
    let mut answers = answers.iter();
    for caller in CALLERS {
        for to in nobody {
            let answer = answers.next().unwrap();
            assert_eq!(answer.status(), Some(503), "{caller} to nobody at {to}: {answer:?}");
            let expected = if to == "http" { "busy" } else { "no-responder" };
            assert_eq!(answer.field("error"), Some(expected), "{caller} to {to}");
            assert_eq!(answer.field("content_type"), Some("application/problem+json"));
        }
        for to in RESPONDERS {
            let answer = answers.next().unwrap();
            assert_eq!(answer.status(), Some(504), "{caller} to late {to}: {answer:?}");
            assert_eq!(answer.field("error"), Some("timed-out"), "{caller} to {to}");
            assert_eq!(answer.0["own"], true, "{caller} to {to}");
        }
    }
    // A broken off HTTP exchange brings no late reply.
    let late = count(CALLERS.len() * (RESPONDERS.len() - 1));
    until("the late replies to be counted", || async {
        let labels = "event=\"reply_late\"";
        let counted = rig.gateway.metric("transload_adapter_events_total", labels).await?;
        (counted >= late).then_some(())
    })
    .await;
    let labels = "outcome=\"timed-out\"";
    let timed_out = rig.gateway.metric("transload_requests_total", labels).await;
    assert_eq!(timed_out, Some(count(CALLERS.len() * RESPONDERS.len())));
    assert_eq!(rig.gateway.metric("transload_requests_in_flight", "").await, Some(0.0));

    // And so is `curl`.
    let url = format!("http://127.0.0.1:{}/ask/{case}/nats-nobody", rig.web);
    let answer = curl::request("POST", &url, &[], b"say hi").await;
    assert_eq!((answer.status, &answer.json()["error"]), (503, &"no-responder".into()));
    let url = format!("http://127.0.0.1:{}/ask/{case}/amqp", rig.web);
    let answer = curl::request("POST", &url, &[], b"say hi").await;
    assert_eq!((answer.status, &*answer.body), (200, "hi by amqp"));
    assert_eq!(answer.header("x-tenant"), Some("blue"));
    drop(rig.nats);
}

/// A number as a metric has it.
fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
