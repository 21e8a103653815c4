//! A disk that remembers every write and flush, and what it holds after its power was cut.
//!
//! [`LoggedDisk`] is a FUSE file system with one file, the disk. A loop device on it carries a real
//! file system. A disk promises one thing: what was written before a flush is there after it. So for
//! a cut at any moment, the disk that is left is every write before the last flush, and any of the
//! sectors that were written after it ([`History::survivor`]).

mod fuse;
mod history;
mod image;
mod mount;

pub use fuse::LoggedDisk;
pub use history::{History, Keep, Left, Tear};
pub use image::Image;
pub use mount::{FileSystem, Mounted, Scratch, may_mount, mount_small};
