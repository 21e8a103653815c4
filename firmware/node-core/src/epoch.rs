//! The boot epoch: a number in flash that counts up with every start, whatever moment the last one
//! ended at.
//!
//! ```text
//! two erase pages, of 8-byte slots:   epoch u32 LE | !epoch u32 LE      free slot: FF..FF
//! ```
//!
//! Each start writes the next slot; a full page goes on in the other, which is erased first, while
//! the full one still holds the count. A slot or an erase that a power cut interrupted leaves a bit
//! set in both words or clear in both, so it is never taken for a count.

use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;

const SLOT: usize = 8;
const FREE: [u8; SLOT] = [0xFF; SLOT];

/// The flash that counting boot epochs needs, in erase pages.
pub const EPOCH_PAGES: u32 = 2;

/// Counts this start: returns its epoch, which is stored when this returns, and is greater than any
/// before and than `at_least`.
///
/// # Errors
/// Those of the flash; the count is then as before or one further.
///
/// # Panics
/// If `range` is not [`EPOCH_PAGES`] pages, or a slot is no multiple of the flash's write size.
pub(crate) fn next_epoch<F: NorFlash>(
    flash: &mut F,
    range: Range<u32>,
    at_least: u32,
) -> Result<u32, F::Error> {
    const { assert!(SLOT.is_multiple_of(F::WRITE_SIZE) && SLOT.is_multiple_of(F::READ_SIZE)) };
    let page_size = F::ERASE_SIZE as u32;
    assert_eq!(range.end - range.start, EPOCH_PAGES * page_size, "two pages for the epoch");
    let pages = [range.start, range.start + page_size];
    let scans = [scan(flash, pages[0])?, scan(flash, pages[1])?];
    let newest = usize::from(scans[1].newest > scans[0].newest);
    let epoch = scans[newest].newest.unwrap_or(0).max(at_least).saturating_add(1);
    let at = match scans[newest] {
        Scan { newest: Some(_), free: Some(free) } => free,
        _ => {
            let other = pages[1 - newest];
            flash.erase(other, other + page_size)?;
            other
        }
    };
    let mut slot = [0; SLOT];
    slot[..4].copy_from_slice(&epoch.to_le_bytes());
    slot[4..].copy_from_slice(&(!epoch).to_le_bytes());
    flash.write(at, &slot)?;
    Ok(epoch)
}

#[derive(Clone, Copy)]
struct Scan {
    newest: Option<u32>,
    /// Address after the last slot that is not free.
    free: Option<u32>,
}

fn scan<F: NorFlash>(flash: &mut F, page: u32) -> Result<Scan, F::Error> {
    let end = page + F::ERASE_SIZE as u32;
    let mut found = Scan { newest: None, free: Some(page) };
    for at in (page..end).step_by(SLOT) {
        let mut slot = FREE;
        flash.read(at, &mut slot)?;
        if slot == FREE {
            continue;
        }
        let after = at + SLOT as u32;
        found.free = (after < end).then_some(after);
        found.newest = found.newest.max(epoch_of(slot));
    }
    Ok(found)
}

fn epoch_of(slot: [u8; SLOT]) -> Option<u32> {
    let [a, b, c, d, e, f, g, h] = slot;
    let epoch = u32::from_le_bytes([a, b, c, d]);
    (epoch == !u32::from_le_bytes([e, f, g, h])).then_some(epoch)
}
