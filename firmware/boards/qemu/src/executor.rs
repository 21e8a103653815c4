//! Runs the tasks in thread mode and sleeps between interrupts.
#![expect(unsafe_code, reason = "polling embassy's raw executor")]

use core::sync::atomic::{AtomicBool, Ordering};
use embassy_executor::{Spawner, raw::Executor};
use static_cell::StaticCell;

static PENDING: AtomicBool = AtomicBool::new(false);

// Named by embassy-executor: called, also from interrupts, when a task can make progress.
#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDING.store(true, Ordering::Release);
}

/// Starts the executor; `init` spawns the first task.
pub fn run(init: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<Executor> = StaticCell::new();
    let executor = EXECUTOR.init(Executor::new(core::ptr::null_mut()));
    init(executor.spawner());
    loop {
        // SAFETY: this is the only place that polls, and it is not reentered.
        unsafe { executor.poll() };
        // QEMU takes WFE for a no-op. WFI wakes for a masked interrupt too, so none that comes
        // between the look at PENDING and the sleep is missed.
        cortex_m::interrupt::disable();
        if !PENDING.swap(false, Ordering::Acquire) {
            cortex_m::asm::wfi();
        }
        // SAFETY: pairs with `disable` above, outside any critical section.
        unsafe { cortex_m::interrupt::enable() };
    }
}
