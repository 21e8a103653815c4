//! Users of the flash: of the ring in it, or of the flash alone.

use crate::flash::Flash;

/// Bytes of a body: a sealed block of readings has about as many.
const BODY_BYTES: usize = 100;
/// Bytes of a block: checksum and body.
pub(crate) const BLOCK_BYTES: usize = 4 + BODY_BYTES;
/// Bytes of flash that the ring holds in RAM: enough for words of 4 bytes.
#[cfg(any(feature = "blocking", feature = "async"))]
const WINDOW: usize = 32;
static BODY: [u8; BODY_BYTES] = [0x37; BODY_BYTES];

pub(crate) use calls::{NEW, User, append, mount, read, trim};

#[cfg(feature = "blocking")]
mod calls {
    use super::{BODY, Flash, WINDOW};
    use log_lite::{Ring, RingSlot};

    pub(crate) type User = RingSlot<Flash, WINDOW>;
    type Mounted = Ring<Flash, WINDOW>;

    /// In a static, as a program would have it.
    pub(crate) const NEW: User =
        RingSlot::with_window(Flash::ERASED, 0..crate::flash::SIZE as u32);

    #[inline(never)]
    pub(crate) fn mount(user: &mut User) -> Option<&mut Mounted> {
        user.mount().ok()
    }

    #[inline(never)]
    pub(crate) fn append(ring: &mut Mounted) -> bool {
        ring.append(3, 1_763_700_000_000, &BODY).is_ok()
    }

    #[inline(never)]
    pub(crate) fn read(ring: &mut Mounted, block: &mut [u8]) -> bool {
        let from = ring.start();
        matches!(ring.read(from, block), Ok(Some(_)))
    }

    #[inline(never)]
    pub(crate) fn trim(ring: &mut Mounted) -> bool {
        !cfg!(feature = "trim") || ring.trim(ring.start() + 1).is_ok()
    }
}

#[cfg(feature = "async")]
mod calls {
    use super::{BODY, Flash, WINDOW};
    use crate::flash::Ready;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use log_lite::{AsyncRing, AsyncRingSlot};

    pub(crate) type User = AsyncRingSlot<Ready, WINDOW>;
    type Mounted = AsyncRing<Ready, WINDOW>;

    /// In a static, as a program would have it.
    pub(crate) const NEW: User =
        AsyncRingSlot::with_window(Ready(Flash::ERASED), 0..crate::flash::SIZE as u32);

    fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }

    #[inline(never)]
    pub(crate) fn mount(user: &mut User) -> Option<&mut Mounted> {
        poll(user.mount())?.ok()
    }

    #[inline(never)]
    pub(crate) fn append(ring: &mut Mounted) -> bool {
        matches!(poll(ring.append(3, 1_763_700_000_000, &BODY)), Some(Ok(_)))
    }

    #[inline(never)]
    pub(crate) fn read(ring: &mut Mounted, block: &mut [u8]) -> bool {
        let from = ring.start();
        matches!(poll(ring.read(from, block)), Some(Ok(Some(_))))
    }

    #[inline(never)]
    pub(crate) fn trim(ring: &mut Mounted) -> bool {
        let before = ring.start() + 1;
        !cfg!(feature = "trim") || matches!(poll(ring.trim(before)), Some(Ok(())))
    }
}

#[cfg(not(any(feature = "blocking", feature = "async")))]
mod calls {
    use super::{BODY, Flash};
    use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

    pub(crate) type User = Flash;

    pub(crate) const NEW: User = Flash::ERASED;

    #[inline(never)]
    pub(crate) fn mount(user: &mut User) -> Option<&mut User> {
        user.erase(0, 1024).ok()?;
        Some(user)
    }

    #[inline(never)]
    pub(crate) fn append(flash: &mut User) -> bool {
        flash.write(0, &BODY).is_ok()
    }

    #[inline(never)]
    pub(crate) fn read(flash: &mut User, block: &mut [u8]) -> bool {
        flash.read(0, &mut block[4..]).is_ok()
    }

    #[inline(never)]
    pub(crate) fn trim(_: &mut User) -> bool {
        true
    }
}

/// Whether a block holds what was stored.
pub(crate) fn is_right(block: &[u8; BLOCK_BYTES]) -> bool {
    block[4..] == BODY
}
