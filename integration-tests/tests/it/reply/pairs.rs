use super::rig::{CALLERS, RESPONDERS, Rig, call};

/// Each pair: the payload, the content type, a header and the caller's own correlation arrive, and
/// a status is the same number on both sides.
#[tokio::test]
async fn every_caller_gets_the_reply_of_every_responder() {
    let case = "pairs";
    let rig = Rig::start(case).await;
    let mut calls = Vec::new();
    for caller in CALLERS {
        for responder in RESPONDERS {
            calls.push(call(case, caller, responder, &format!("say hello from {caller}")));
            calls.push(call(case, caller, responder, "status 404"));
        }
    }
    let answers = rig.call(&calls).await;
    let mut answers = answers.iter();
    for caller in CALLERS {
        for responder in RESPONDERS {
            let pair = format!("{caller} to {responder}");
            let said = answers.next().unwrap();
            assert_eq!(said.text(), format!("hello from {caller} by {responder}"), "{pair}");
            let refused = answers.next().unwrap();
            assert_eq!(refused.text(), format!("404 by {responder}"), "{pair}");
            for answer in [said, refused] {
                assert_eq!(answer.0["own"], true, "{pair}: {answer:?}");
                assert_eq!(answer.field("error"), None, "{pair}");
                // Devices of 3.1.1 have no properties to say it with.
                if responder.ends_with("-3") {
                    continue;
                }
                assert_eq!(answer.field("content_type"), Some("text/x-reply"), "{pair}");
                assert_eq!(answer.field("tenant"), Some("blue"), "{pair}");
            }
            if !responder.ends_with("-3") {
                assert_eq!(refused.status(), Some(404), "{pair}");
            }
        }
    }
}
