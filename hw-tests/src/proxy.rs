//! A link that a test can cut: what connects here is carried to a target, until it is cut.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two looks at whether somebody connects.
const LOOK: Duration = Duration::from_millis(2);

/// A proxy on a free port of the loopback; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    target: Mutex<Option<SocketAddr>>,
    links: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Proxy {
    /// Starts a proxy without a target: who connects is turned away.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections go from now on.
    pub fn set_target(&self, target: Option<SocketAddr>) {
        *lock(&self.shared.target) = target;
    }

    /// Cuts all connections; how many there were.
    pub fn cut(&self) -> usize {
        let links: Vec<TcpStream> = lock(&self.shared.links).drain(..).collect();
        for link in &links {
            // One that is closed already is cut.
            link.shutdown(Shutdown::Both).ok();
        }
        links.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        self.cut();
    }
}

impl Shared {
    fn accept(&self, listener: &TcpListener) {
        while !self.over.load(Ordering::SeqCst) {
            match listener.accept() {
                // Without a target the connection is dropped, and so closed.
                Ok((client, _)) => drop(self.carry(client)),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn carry(&self, client: TcpStream) -> io::Result<()> {
        let target = *lock(&self.target);
        let target = target.ok_or(io::ErrorKind::NotConnected)?;
        client.set_nonblocking(false)?;
        let server = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_out, server_out) = (client.try_clone()?, server.try_clone()?);
        let mut links = lock(&self.links);
        links.push(client.try_clone()?);
        links.push(server.try_clone()?);
        drop(links);
        thread::spawn(move || pump(client, server_out));
        thread::spawn(move || pump(server, client_out));
        Ok(())
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other direction ends too.
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

/// No test panics while it holds one.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
