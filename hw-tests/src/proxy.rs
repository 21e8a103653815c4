//! A TCP proxy that counts what passes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// A proxy on a free port of the loopback; connections end with the other side's.
pub struct Proxy {
    address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    passed: Arc<Passed>,
}

/// Bytes so far, as TCP carries them.
#[derive(Debug, Default)]
struct Passed {
    up: AtomicU64,
    down: AtomicU64,
}

impl Proxy {
    /// Listens; who connects before [`Proxy::to`] is turned away.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (target, passed) = (Arc::new(OnceLock::new()), Arc::new(Passed::default()));
        let (to, counts) = (Arc::clone(&target), Arc::clone(&passed));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(to) = to.get() else { continue };
                if let Ok(server) = TcpStream::connect(to) {
                    // A connection that cannot be passed on is closed, which both ends see.
                    drop(pass(client, server, &counts));
                }
            }
        });
        Ok(Self { address, target, passed })
    }

    /// Passes connections on to `target`, which stays.
    pub fn to(&self, target: SocketAddr) {
        self.target.get_or_init(|| target);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes to the target and back, so far.
    pub fn passed(&self) -> (u64, u64) {
        (self.passed.up.load(Ordering::Acquire), self.passed.down.load(Ordering::Acquire))
    }
}

fn pass(client: TcpStream, server: TcpStream, passed: &Arc<Passed>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    let up = Arc::clone(passed);
    std::thread::spawn(move || copy(client, server_too, &up.up));
    let down = Arc::clone(passed);
    std::thread::spawn(move || copy(server, client_too, &down.down));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        count.fetch_add(read as u64, Ordering::AcqRel);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
