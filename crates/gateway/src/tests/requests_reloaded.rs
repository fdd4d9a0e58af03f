//! Another configuration while callers wait for their replies.

use serde_json::json;
use transload_adapter::testing::Reaction;
use transload_envelope::{Envelope, Origin};

use super::{
    reloading::Changing,
    requests::{answered, question, status},
};

/// A route whose requests wait much longer than any test.
const ASK: &str = "[[route]]\nname = \"ask\"\nfrom = \"source\"\nto = \"target\"\n\
                   reply = { timeout = \"10m\" }\n";
/// Another one between the same adapters.
const OTHER: &str = "[[route]]\nname = \"other\"\nfrom = \"source\"\nto = \"target\"\n";
/// Settings by which an adapter differs from what it was.
const CHANGED: [(&str, &str); 2] = [
    ("source", "[adapters.source.deduplicate]\nwindow = \"1m\"\n"),
    ("target", "[adapters.target.deduplicate]\nwindow = \"1m\"\n"),
];

fn reply_later(changing: &Changing) {
    let reply = Envelope::new(Origin::new("target", "fake", "answers"), "yes");
    changing.site.target.react([Reaction::ReplyLater(Box::new(reply))]);
}

#[tokio::test]
async fn a_request_gets_its_answer_though_its_route_is_changed_or_gone() {
    for rest in [ASK.replace("10m", "1s"), OTHER.to_owned(), String::new()] {
        let changing = Changing::start(ASK).await;
        reply_later(&changing);
        let asked = question(&changing.site.source, "?", None);
        changing.site.target.until_attempts(1).await;
        // What the source wants may be something else now, for which its requests are waited for.
        let change = async { changing.good_change(&rest).await };
        let release = async {
            if !rest.is_empty() {
                return;
            }
            // Nothing else tells that the change is waiting.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            changing.site.target.release();
        };
        tokio::join!(change, release);
        changing.site.target.release();
        let answer = answered(&asked).await;
        assert_eq!((&*answer.payload, status(&answer)), (&b"yes"[..], None), "{rest}");
        changing.gateway.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_adapter_with_other_settings_ends_after_the_answers_that_it_owes() {
    for (adapter, settings) in CHANGED {
        let changing = Changing::start(ASK).await;
        reply_later(&changing);
        let asked = question(&changing.site.source, "?", None);
        changing.site.target.until_attempts(1).await;
        let attempts = changing.site.target.connect_attempts();
        let change = async {
            let answer = changing.good_change(&format!("{settings}{ASK}")).await;
            assert_eq!(answer["adapters"]["restarted"], json!([adapter]), "{answer}");
        };
        let release = async {
            // The change waits for the answer.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert_eq!(changing.site.target.connect_attempts(), attempts, "{adapter}");
            assert_eq!(asked.outcome(), None, "{adapter}");
            changing.site.target.release();
        };
        tokio::join!(change, release);
        let answer = answered(&asked).await;
        assert_eq!((&*answer.payload, status(&answer)), (&b"yes"[..], None), "{adapter}");
        changing.gateway.stop().await.unwrap();
    }
}

#[tokio::test]
async fn who_would_wait_in_vain_is_told_so() {
    for ((adapter, settings), error) in CHANGED.into_iter().zip(["stopping", "disconnected"]) {
        let changing = Changing::start_draining(ASK, "100ms").await;
        changing.site.target.react([Reaction::Hold]);
        let asked = question(&changing.site.source, "?", None);
        changing.site.target.until_attempts(1).await;
        changing.good_change(&format!("{settings}{ASK}")).await;
        let answer = answered(&asked).await;
        assert_eq!(status(&answer), Some(503), "{adapter}");
        assert_eq!(answer.headers.get("reply-error"), Some(&error.into()), "{adapter}");
        changing.gateway.stop().await.unwrap();
    }
}
