//! `headwater run`

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{init_tracing, runtime};
use crate::app::App;
use crate::config::Config;
use crate::exit::{Code, Failure};

pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let config = Config::load(path)?;
    init_tracing("info");
    runtime().block_on(serve(path, config))
}

async fn serve(path: &Path, config: Config) -> Result<(), Failure> {
    let signals = |kind| signal(kind).map_err(|problem| Failure::new(Code::Disk, problem));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hangup = signals(SignalKind::hangup())?;
    let mut app = App::start(config).await?;
    info!(mqtt = %app.mqtt_addr(), http = %app.http_addr(), "ready");
    notify("READY=1");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&mut app, path),
            failure = app.failed() => {
                notify("STOPPING=1");
                app.stop().await;
                return Err(failure);
            }
        }
    }
    info!("stopping");
    notify("STOPPING=1");
    app.stop().await;
    Ok(())
}

fn reload(app: &mut App, path: &Path) {
    match Config::load(path) {
        Err(problem) => warn!(%problem, "the configuration is wrong; going on with the old"),
        Ok(config) => {
            let restarts = app.reload(config);
            info!("the configuration was read again");
            if !restarts.is_empty() {
                warn!("needs a restart: {}", restarts.join(", "));
            }
        }
    }
}

/// Tells systemd (sd_notify(3)): one datagram to the socket that it names, nothing without one.
fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name.as_os_str());
        match bytes.strip_prefix(b"@") {
            None => socket.send_to(state.as_bytes(), Path::new(&name)),
            Some(name) => {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)
            }
        }
    });
    if let Err(problem) = sent {
        warn!(%problem, "systemd was not told");
    }
}
