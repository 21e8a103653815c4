//! The allocator of the static binary: that of musl has one lock for all threads (decision 26).

#![expect(unsafe_code, reason = "the crate has no safe call that sets an option")]

use std::ffi::{c_int, c_long};

/// Of Rust and, by its names of `malloc` and `free`, of the C libraries that are linked in.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3.
const PURGE_DELAY: c_int = 15;
/// Free memory goes back to the system at once; a second later, as it comes, doubles what a burst of
/// messages takes.
const PURGE_DELAY_MS: c_long = 0;

/// Before there are threads.
pub(crate) fn set() {
    // SAFETY: the option is one of mimalloc's, and no other thread runs yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
}
