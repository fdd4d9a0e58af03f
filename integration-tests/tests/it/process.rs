//! The program as an operating system sees it: signals, exit codes, its directory, its admin address.

use transload_integration_tests::{
    End, HttpSink, Message, Python, Transload, curl, free_port, texts, transload_to_end,
};

use crate::support::{client, devices, numbered, numbers, route, web};

#[tokio::test]
async fn a_signal_to_stop_ends_it_with_code_0() {
    let port = free_port();
    let configuration = [devices(port, ""), web(free_port())].concat();
    for signal in [End::Terminate, End::Interrupt] {
        let mut gateway = Transload::start(&configuration).await;
        let device = Python::mqtt(&format!("127.0.0.1:{port}"));
        let _connected = device.consume(&["consume", "a"]).await;
        gateway.process().signal(signal);
        let status = gateway.ended().await;
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", gateway.log());
    }
}

/// What was accepted before the signal is delivered, at the latest after the next start.
#[tokio::test]
async fn a_stop_loses_nothing_that_was_accepted() {
    let port = free_port();
    let mut sink = HttpSink::start().await;
    let mut gateway = Transload::start(
        &[
            devices(port, ""),
            client("target", "http", &sink.url(), ""),
            route("r", "devices", "s/#", "\"target\"", ""),
        ]
        .concat(),
    )
    .await;
    let device = Python::mqtt(&format!("127.0.0.1:{port}"));
    device.publish(&["--pipelined"], &numbered("s/x", 0..500)).await;
    assert_eq!(gateway.stop().await.code(), Some(0));
    gateway.run().await;
    let received = sink.requests().take(500).await;
    let first = crate::support::first_of_each(&received);
    assert_eq!(first, numbers(0..500), "in order");
}

#[tokio::test]
async fn a_second_gateway_on_one_data_directory_is_refused() {
    let first = Transload::start(&web(free_port())).await;
    let second = Transload::new(&web(free_port()));
    second.configure_as(&first, &web(free_port()));
    let config = second.config().display().to_string();
    let (code, output, errors) = transload_to_end(&["run", "--config", &config]).await;
    assert_ne!(code, 0);
    let said = output + &errors;
    assert!(said.contains(&first.data_dir().display().to_string()), "which directory: {said}");
    assert_eq!(
        first.admin("/healthz").await.map(|answer| answer.0),
        Some(200),
        "the first goes on"
    );
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let port = free_port();
    let _first = Transload::start(&web(port)).await;
    let second = Transload::new(&web(port));
    let config = second.config().display().to_string();
    let (code, output, errors) = transload_to_end(&["run", "--config", &config]).await;
    assert_ne!(code, 0);
    let said = output + &errors;
    assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
}

#[tokio::test]
async fn the_table_at_the_start_names_adapters_and_routes_with_their_guarantee() {
    let port = free_port();
    let gateway = Transload::start(
        &[
            devices(port, ""),
            web(free_port()),
            route("telemetry", "devices", "d/{id}/t", "\"web\"", "guarantee = \"delivered\""),
        ]
        .concat(),
    )
    .await;
    let log = gateway.log();
    for word in ["devices", &format!("127.0.0.1:{port}"), "telemetry", "d/{id}/t", "delivered"] {
        assert!(log.contains(word), "{word} is not in:\n{log}");
    }
}

#[tokio::test]
async fn the_admin_address_tells_health_and_figures() {
    let port = free_port();
    let mut sink = HttpSink::start().await;
    let gateway = Transload::start(
        &[
            web(port),
            client("target", "http", &sink.url(), ""),
            route("r", "web", "a/#", "\"target\"", ""),
        ]
        .concat(),
    )
    .await;
    gateway.until_ready().await;
    curl::post(&format!("http://127.0.0.1:{port}/a/b"), &[], b"x").await;
    assert_eq!(texts(&sink.requests().take(1).await), ["x"]);
    let received = gateway.metric("transload_messages_received_total", "adapter=\"web\"").await;
    assert_eq!(received, Some(1.0));
    transload_integration_tests::wait::until("the delivery to be counted", || async {
        let count = gateway.metric("transload_messages_finished_total", "delivered").await?;
        (count > 0.5).then_some(())
    })
    .await;
    let (_, text) = gateway.admin("/metrics").await.unwrap();
    assert!(text.ends_with("# EOF\n"), "OpenMetrics has an end");
    assert_eq!(gateway.admin("/nothing").await.map(|answer| answer.0), Some(404));
}

#[tokio::test]
async fn http_says_what_became_of_a_request() {
    let port = free_port();
    let _gateway = Transload::start(
        &[
            web(port).as_str(),
            "max_body_bytes = \"1KiB\"\ncontent_types = [\"text/*\"]\n",
            &devices(free_port(), ""),
            &route("r", "web", "a/#", "\"devices\"", ""),
        ]
        .concat(),
    )
    .await;
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    let text = ["Content-Type: text/plain"];
    let accepted = curl::post(&url("/a/b"), &text, b"x").await;
    assert_eq!(accepted.status, 202);
    assert!(accepted.json()["id"].is_string(), "{accepted:?}");
    assert_eq!(curl::request("PUT", &url("/a/b"), &text, b"x").await.status, 202);
    assert_eq!(curl::post(&url("/b"), &text, b"x").await.status, 404);
    assert_eq!(curl::post(&url("/a"), &text, &[b'x'; 2_000]).await.status, 413);
    assert_eq!(curl::post(&url("/a"), &["Content-Type: image/png"], b"x").await.status, 415);
    assert_eq!(curl::request("GET", &url("/a/b"), &[], b"").await.status, 405);
}

/// `Last-Event-ID` resumes a stream behind the event that was seen last.
#[tokio::test]
async fn an_event_stream_resumes() {
    let port = free_port();
    let _gateway = Transload::start(
        &[
            web(port).as_str(),
            &route("r", "web", "e/#", "{ adapter = \"web\", stream = \"/streams/e\" }", ""),
        ]
        .concat(),
    )
    .await;
    let url = format!("http://127.0.0.1:{port}/e/x");
    let stream = format!("http://127.0.0.1:{port}/streams/e");
    let mut first = curl::events(&stream, None).await;
    for number in 0..3 {
        curl::post(&url, &[], number.to_string().as_bytes()).await;
    }
    let seen = first.take(3).await;
    assert_eq!(texts(&seen), numbers(0..3));
    assert!(seen.iter().all(|event| event.address == "e/x"), "{seen:?}");
    first.vanish();
    let last = seen[0].fields["id"].as_str().unwrap().to_owned();
    let mut again = curl::events(&stream, Some(&last)).await;
    assert_eq!(texts(&again.take(2).await), numbers(1..3));
    curl::post(&url, &[], b"3").await;
    assert_eq!(texts(&again.take(1).await), ["3"]);
}

#[tokio::test]
async fn a_fallback_takes_what_no_other_route_took() {
    let port = free_port();
    let mut sink = HttpSink::start().await;
    let to = |path: &str| format!("{{ adapter = \"target\", path = \"{path}/{{rest}}\" }}");
    let _gateway = Transload::start(
        &[
            devices(port, "local = false").as_str(),
            &client("target", "http", &sink.url(), ""),
            &route("known", "devices", "known/{rest...}", &to("known"), ""),
            &route("others", "devices", "{rest...}", &to("others"), "fallback = true"),
        ]
        .concat(),
    )
    .await;
    let device = Python::mqtt(&format!("127.0.0.1:{port}"));
    device.publish(&[], &[Message::new("known/a", "1"), Message::new("strange/b", "2")]).await;
    sink.requests().take(2).await;
    let mut paths: Vec<_> =
        sink.requests().all().iter().map(|request| request.address.clone()).collect();
    paths.sort();
    assert_eq!(paths, ["/known/a", "/others/strange/b"]);
}
