//! A socket in the file system, for programs of this machine that its permissions let in.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket};

use super::tcp::BACKLOG;

/// Owner and group may connect.
const MODE: u32 = 0o660;

/// A listening socket; its file goes with it.
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    file: SocketFile,
}

impl Listener {
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }
}

/// Listens at `path`; the file of a gateway that is dead is replaced.
pub(super) fn listen(path: &Path) -> io::Result<Listener> {
    bind(path).map_err(|problem| {
        let remedy = match problem.kind() {
            io::ErrorKind::AddrInUse => "end what listens there, or set another mqtt.unix",
            io::ErrorKind::AlreadyExists => {
                "this is no socket: remove it, or set another mqtt.unix"
            }
            io::ErrorKind::NotFound => "make the directory first",
            io::ErrorKind::PermissionDenied => "let the gateway's user write to the directory",
            _ => "set mqtt.unix to a path in a directory of the gateway's",
        };
        let path = path.display();
        let text = format!("mqtt.unix: MQTT cannot listen on {path}: {problem}; {remedy}");
        io::Error::new(problem.kind(), text)
    })
}

fn bind(path: &Path) -> io::Result<Listener> {
    make_way(path)?;
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile::new(path)?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, PermissionsExt::from_mode(MODE))?;
    Ok(Listener { socket: socket.listen(BACKLOG)?, file })
}

/// Removes what a dead gateway has left.
fn make_way(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(problem) if problem.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(problem) => Err(problem),
        Ok(file) if !file.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if is_live(path) => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => std::fs::remove_file(path),
    }
}

/// True unless nobody has the socket of that file. A socket of another type is asked for: it is
/// refused at once where the file is all that is left, and never waits in a queue that is full.
fn is_live(path: &Path) -> bool {
    let asked = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    !asked.is_err_and(|problem| problem.kind() == io::ErrorKind::ConnectionRefused)
}

/// The file of a socket of ours, removed with it unless it is another's by then.
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let device_and_inode = device_and_inode(path)?;
        Ok(Self { path: path.to_owned(), device_and_inode })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if device_and_inode(&self.path).is_ok_and(|found| found == self.device_and_inode) {
            // A file that stays is replaced by the next gateway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn device_and_inode(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}
