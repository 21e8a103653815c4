//! Certificates that are replaced while the gateway runs: files that change are read again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::tls::Tls;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Tells a file from the one that was there before, without reading it.
type Print = Option<(SystemTime, u64, u64)>;

/// Decides when files are read: once after a change, when they rest. A certificate and its key do
/// not come in one moment, and a half of a pair is of no use.
#[derive(Debug)]
struct Looks {
    read: Vec<Print>,
    last: Vec<Print>,
}

impl Looks {
    fn new(now: Vec<Print>) -> Self {
        Self { read: now.clone(), last: now }
    }

    /// True if the files have to be read now.
    fn look(&mut self, now: Vec<Print>) -> bool {
        let rests = now == self.last;
        self.last = now;
        let due = rests && self.last != self.read;
        if due {
            self.read.clone_from(&self.last);
        }
        due
    }
}

/// Asks the front door to read its certificates again.
#[derive(Clone, Debug, Default)]
pub struct Renewal(Arc<Notify>);

impl Renewal {
    /// Connections from now on see what the files hold; those that are open go on.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// Reads the files again whenever they change or somebody asks, until `shutdown`.
pub(crate) async fn keep_fresh(
    tls: Arc<Tls>,
    renewal: Renewal,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut looks = Looks::new(prints(&tls));
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            () = renewal.0.notified() => {
                looks = Looks::new(prints(&tls));
                reload(&tls);
            }
            _ = tick.tick() => if looks.look(prints(&tls)) {
                reload(&tls);
            }
        }
    }
}

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => info!("certificates were read again; connections that are open go on"),
        Err(faults) => {
            for fault in faults {
                warn!(%fault, "new certificates cannot be used; going on with the old ones");
            }
        }
    }
}

fn prints(tls: &Tls) -> Vec<Print> {
    tls.paths().map(print).collect()
}

fn print(path: &Path) -> Print {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Print {
        Some((SystemTime::UNIX_EPOCH + Duration::from_secs(second), 1, 1))
    }

    #[test]
    fn files_are_read_once_after_they_came_to_rest() {
        let mut looks = Looks::new(vec![at(1), at(1)]);
        let seen = [
            (vec![at(1), at(1)], false),
            (vec![at(2), at(1)], false), // the certificate
            (vec![at(2), at(2)], false), // and then its key
            (vec![at(2), at(2)], true),
            (vec![at(2), at(2)], false),
            (vec![at(2), None], false), // a key that is being replaced
            (vec![at(2), at(2)], false),
            (vec![at(2), at(2)], false),
        ];
        for (step, (now, expected)) in seen.into_iter().enumerate() {
            assert_eq!(looks.look(now), expected, "step {step}");
        }
    }
}
