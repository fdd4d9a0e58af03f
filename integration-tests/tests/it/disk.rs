//! Trouble with the disk, as the real program meets it: nothing that was acknowledged is lost, and
//! everybody is told.
//!
//! What needs a file system of its own is mounted, which only root may do; where that is not
//! possible, the test says `NOT RUN`, and the tests of the journal with a disk that fails on purpose
//! are what there is.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use transload_integration_tests::{
    HttpSink, SmallDisk, Transload, curl, free_port, transload_to_end, wait::until,
};

use crate::support::{client, first_of_each, numbers, route, web};

/// From a web listener to a target.
fn web_to(port: u16, sink: &HttpSink) -> String {
    let target = client("target", "http", &sink.url(), "");
    [web(port), target, route("r", "web", "d/#", "\"target\"", "")].concat()
}

async fn post(port: u16, text: &str) -> u16 {
    curl::post(&format!("http://127.0.0.1:{port}/d/x"), &[], text.as_bytes()).await.status
}

fn not_run(what: &str, why: &str) {
    eprintln!("NOT RUN: {what}: {why}");
}

async fn store_state(gateway: &Transload) -> Option<(u16, String)> {
    let (status, body) = gateway.admin("/readyz").await?;
    let body: Value = serde_json::from_str(&body).ok()?;
    Some((status, body["store"]["state"].as_str()?.to_owned()))
}

async fn until_store_is(gateway: &Transload, state: &str) {
    until(format!("the store to be {state}"), || async {
        (store_state(gateway).await?.1 == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_to_is_refused_with_the_cure() {
    let gateway = Transload::new(&web(free_port()));
    let config = gateway.config().display().to_string();
    // A file where the directory should be: the same for every user.
    fs::write(gateway.data_dir(), "").unwrap();
    let (code, output, errors) = transload_to_end(&["run", "--config", &config]).await;
    let said = output + &errors;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(&gateway.data_dir().display().to_string()), "{said}");
    fs::remove_file(gateway.data_dir()).unwrap();
    let disk = match SmallDisk::mount(&gateway.data_dir(), 64) {
        Ok(disk) => disk,
        Err(why) => return not_run("a read-only data directory", &why),
    };
    disk.read_only(true).unwrap();
    let (code, output, errors) = transload_to_end(&["run", "--config", &config]).await;
    let said = output + &errors;
    assert_eq!(code, 3, "{said}");
    for part in [&*gateway.data_dir().display().to_string(), "Read-only", "can be written to"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
}

/// Sources are refused while the disk is full, and work goes on by itself when there is space.
#[tokio::test]
async fn a_full_disk_refuses_and_work_goes_on_when_there_is_space() {
    let (port, mut sink) = (free_port(), HttpSink::absent());
    let mut gateway = Transload::new(&web_to(port, &sink));
    let disk = match SmallDisk::mount(&gateway.data_dir(), 16) {
        Ok(disk) => disk,
        Err(why) => return not_run("a full disk", &why),
    };
    gateway.run().await;
    let mut accepted = 0;
    while accepted < 20 {
        assert_eq!(post(port, &accepted.to_string()).await, 202);
        accepted += 1;
    }
    disk.fill().unwrap();
    // The last bytes of the blocks that it has may still take some.
    let refused = until("a post to be refused", || async {
        let status = post(port, "not accepted").await;
        (status != 202).then_some(status)
    });
    assert_eq!(refused.await, 503);
    until_store_is(&gateway, "full").await;
    assert_eq!(store_state(&gateway).await.map(|state| state.0), Some(503));
    assert_eq!(gateway.metric("transload_journal_full", "").await, Some(1.0));
    assert_eq!(gateway.metric("transload_journal_failed", "").await, Some(0.0));
    disk.relieve().unwrap();
    until("a post to be accepted again", || async {
        (post(port, "again").await == 202).then_some(())
    })
    .await;
    until_store_is(&gateway, "ready").await;
    sink.appear(&[]).await;
    let received = until("all that was accepted", || {
        let received = first_of_each(sink.requests().all());
        async move { received.contains(&"again".to_owned()).then_some(received) }
    })
    .await;
    assert_eq!(received[..20], numbers(0..20), "in order");
    gateway.kill();
}

/// What a file system that has turned read-only had confirmed is there after a restart.
#[tokio::test]
async fn a_disk_that_turns_read_only_stops_the_intake_until_a_restart() {
    let (port, mut sink) = (free_port(), HttpSink::absent());
    let mut gateway = Transload::new(&web_to(port, &sink));
    if let Err(why) = can_be_made_immutable(gateway.config().parent().unwrap()) {
        return not_run("a disk that turns read-only", &why);
    }
    gateway.run().await;
    for number in 0..10 {
        assert_eq!(post(port, &number.to_string()).await, 202);
    }
    let segment = gateway.data_dir().join("00000001.journal");
    immutable(&segment, true).unwrap();
    let refused = until("a post to be refused", || async {
        let status = post(port, "not accepted").await;
        (status != 202).then_some(status)
    })
    .await;
    assert_eq!(refused, 503);
    until_store_is(&gateway, "failed").await;
    assert_eq!(gateway.metric("transload_journal_failed", "").await, Some(1.0));
    immutable(&segment, false).unwrap();
    assert_eq!(post(port, "not accepted").await, 503, "it is not trusted again");
    gateway.kill();
    gateway.run().await;
    sink.appear(&[]).await;
    assert_eq!(post(port, "last").await, 202);
    let received = until("all that was accepted", || {
        let received = first_of_each(sink.requests().all());
        async move { received.contains(&"last".to_owned()).then_some(received) }
    })
    .await;
    assert_eq!(received[..10], numbers(0..10), "in order");
}

fn immutable(file: &Path, immutable: bool) -> Result<(), String> {
    let flag = if immutable { "+i" } else { "-i" };
    let output = Command::new("chattr").arg(flag).arg(file).output();
    let output = output.map_err(|error| format!("chattr: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Whether this file system refuses to write to a file that was opened before it was made immutable.
fn can_be_made_immutable(folder: &Path) -> Result<(), String> {
    let path = folder.join("probe");
    let file = fs::File::create(&path).map_err(|error| error.to_string())?;
    immutable(&path, true)?;
    let written = file.write_all_at(b"x", 0);
    immutable(&path, false)?;
    match written {
        Ok(()) => Err("the file system writes to immutable files that are open".to_owned()),
        Err(_) => Ok(()),
    }
}

/// Damage is named with its file and its place, and nothing is changed until somebody says so.
#[tokio::test]
async fn a_damaged_file_stops_the_start_until_it_is_set_aside() {
    let (port, sink) = (free_port(), HttpSink::absent());
    let mut gateway = Transload::new(&web_to(port, &sink));
    gateway.run().await;
    for number in 0..50 {
        assert_eq!(post(port, &number.to_string()).await, 202);
    }
    gateway.kill();
    let segment = gateway.data_dir().join("00000001.journal");
    let length = flip(&segment);
    let config = gateway.config().display().to_string();
    let (code, output, errors) = transload_to_end(&["run", "--config", &config]).await;
    let said = output + &errors;
    assert_eq!(code, 3, "{said}");
    let place = format!("{} is damaged at offset ", segment.display());
    for part in [&*place, "nothing was changed", "transload repair --set-aside"] {
        assert!(said.contains(part), "{part} is missing in: {said}");
    }
    let (code, _, errors) = transload_to_end(&["repair", "--config", &config]).await;
    assert_eq!(code, 5);
    assert!(errors.contains(&place), "{errors}");
    assert_eq!(fs::metadata(&segment).unwrap().len(), length, "nothing was changed");
    let (code, output, errors) =
        transload_to_end(&["repair", "--set-aside", "--config", &config]).await;
    assert_eq!(code, 0, "{output}{errors}");
    let aside = PathBuf::from(format!("{}.damaged", segment.display()));
    assert_eq!(fs::metadata(&aside).unwrap().len(), length, "the copy is whole");
    for part in ["Set aside: ", "00000001.journal.damaged", "Lost: "] {
        assert!(output.contains(part), "{part} is missing in: {output}");
    }
    gateway.run().await;
    assert_eq!(post(port, "new").await, 202);
    let (code, _, errors) = transload_to_end(&["repair", "--config", &config]).await;
    assert_eq!(code, 5);
    assert!(errors.contains("stop it first"), "{errors}");
}

/// Damages a byte in the middle of a file; returns its length.
fn flip(path: &Path) -> u64 {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut byte = [0];
    file.read_exact_at(&mut byte, length / 2).unwrap();
    file.write_all_at(&[!byte[0]], length / 2).unwrap();
    length
}
