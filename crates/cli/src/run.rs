//! `transload run`

use std::io;

use tokio::{
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use transload_gateway::{
    Reload, Reloader,
    config::{Configuration, Loaded, load, overview},
    run_reloading,
};

use crate::{
    adapters,
    arguments::Arguments,
    colored, environment,
    exit::{self, Outcome},
    logging, notify, print, print_error, stack,
};

/// Runs the gateway until it is told to stop.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if let Err(reason) = stack::ensure() {
        print_error(&format!(
            "error: the program cannot start over with larger stacks: {reason}\n"
        ));
        return Outcome::CannotStart;
    }
    if let Err(reason) = logging::start(&arguments.log) {
        print_error(&format!("error: {reason}\n"));
        return Outcome::CannotStart;
    }
    let file = arguments.config.clone();
    let read = move || load(&file, &environment, &adapters::registry());
    let Loaded { configuration, report, watched } = read();
    print_error(&report.render(colored(&io::stderr())));
    let Some(configuration) = configuration else { return Outcome::Faults };
    // Two libraries would each choose their own cryptography; the first to be asked decides.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        warn!("another provider of cryptography is already in use");
    }
    print(&overview(&configuration));
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(stack::RUNTIME_STACK_BYTES)
        .build();
    match runtime {
        Ok(runtime) => {
            let (reload, reloader) = Reload::new(read, watched);
            let reload = reload.when_ready(notify::ready);
            runtime.block_on(serve(configuration, reload, reloader))
        }
        Err(reason) => {
            error!(%reason, "the runtime cannot be started");
            Outcome::CannotStart
        }
    }
}

async fn serve(configuration: Configuration, reload: Reload, reloader: Reloader) -> Outcome {
    let signals = signal(SignalKind::terminate()).and_then(|terminate| {
        Ok((terminate, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?))
    });
    let (terminate, interrupt, hangup) = match signals {
        Ok(signals) => signals,
        Err(reason) => {
            error!(%reason, "signals cannot be listened to");
            return Outcome::CannotStart;
        }
    };
    let stop = CancellationToken::new();
    let gateway = Box::pin(run_reloading(configuration, reload, stop.clone()));
    tokio::select! {
        result = gateway => match result {
            Ok(summary) => {
                if summary.lost > 0 {
                    warn!(
                        messages = summary.lost,
                        "messages that were in memory only have not been delivered"
                    );
                }
                info!(waiting = summary.waiting, "the gateway has stopped");
                Outcome::Well
            }
            Err(reason) => {
                error!(%reason, "the gateway cannot run");
                Outcome::CannotStart
            }
        },
        () = obey(terminate, interrupt, stop) => Outcome::Well,
        () = read_anew(hangup, reloader) => Outcome::Well,
    }
}

/// Has the configuration read anew at each SIGHUP. Never returns.
async fn read_anew(mut hangup: Signal, reloader: Reloader) {
    while hangup.recv().await.is_some() {
        reloader.reload();
    }
    std::future::pending::<()>().await;
}

/// Passes the first signal on, and ends the process at the second. Never returns.
async fn obey(mut terminate: Signal, mut interrupt: Signal, stop: CancellationToken) {
    next(&mut terminate, &mut interrupt).await;
    info!("told to stop: finishing what is in flight; a second signal ends at once");
    notify::stopping();
    stop.cancel();
    next(&mut terminate, &mut interrupt).await;
    warn!("told to stop again: ending at once");
    std::process::exit(i32::from(exit::CUT_SHORT));
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
