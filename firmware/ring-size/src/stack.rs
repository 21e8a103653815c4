//! How deep the stack was used: it is painted before a call and looked at afterwards.
#![expect(unsafe_code, reason = "the free part of the stack has no owner in safe code")]

use core::arch::asm;
use core::ptr::{read_volatile, write_volatile};

const PAINT: u32 = 0x5AA5_C33C;

unsafe extern "C" {
    /// Where the statics end and the stack may grow to (cortex-m-rt's linker script).
    static mut _stack_end: u32;
}

/// The stack as it was painted.
pub(crate) struct Paint {
    top: usize,
    words: usize,
}

/// The stack pointer.
#[inline(always)]
fn pointer() -> usize {
    let sp: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) sp, options(nomem, nostack, preserves_flags)) };
    sp
}

impl Paint {
    /// Paints all of the stack that the caller does not use.
    #[inline(always)]
    pub(crate) fn new() -> Self {
        let top = pointer();
        Self { top, words: paint() }
    }

    /// Bytes of stack that calls have taken since, their return addresses included.
    #[inline(never)]
    pub(crate) fn used(&self) -> usize {
        let end = &raw const _stack_end;
        // SAFETY: words of the stack below all that is in use.
        let untouched =
            (0..self.words).take_while(|n| unsafe { read_volatile(end.add(*n)) } == PAINT);
        self.top - end as usize - untouched.count() * size_of::<u32>()
    }
}

#[inline(never)]
fn paint() -> usize {
    let end = &raw mut _stack_end;
    let words = (pointer() - end as usize) / size_of::<u32>();
    for n in 0..words {
        // SAFETY: aligned words between the statics and the stack pointer, which nothing uses.
        unsafe { write_volatile(end.add(n), PAINT) };
    }
    words
}
