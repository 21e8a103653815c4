//! embassy-time's driver over the CMSDK timers at 25 MHz: TIMER1 runs free and is the clock, TIMER0
//! is the alarm.
//!
//! The alarm comes at least every 10 ms. That extends the 32 bits of TIMER1 (171 s) to 64, and the
//! emulator's network is only polled when its loop wakes.

use crate::{irq::Irq, mmio::Registers};
use core::{cell::RefCell, task::Waker};
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

const CLOCK_MHZ: u64 = 25;
const ALARM_US_MAX: u64 = 10_000;
const ALARM_US_MIN: u64 = 20;

const CTRL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INT_CLEAR: usize = 0xC;
const CTRL_ENABLE: u32 = 1;
const CTRL_INTERRUPT: u32 = 1 << 3;

struct State {
    queue: Queue,
    last_count: u32,
    high: u64,
}

impl State {
    /// Microseconds since boot. Called at least every 10 ms, so no wrap of TIMER1 is missed.
    fn now_us(&mut self) -> u64 {
        let count = !Registers::TIMER1.read(VALUE);
        if count < self.last_count {
            self.high += 1 << 32;
        }
        self.last_count = count;
        (self.high + u64::from(count)) / CLOCK_MHZ
    }

    /// Wakes what is due and sets the alarm for what comes next.
    fn advance(&mut self) {
        let mut now_us = self.now_us();
        let mut next_us = self.queue.next_expiration(now_us);
        while next_us <= now_us {
            now_us = self.now_us();
            next_us = self.queue.next_expiration(now_us);
        }
        let wait_us = (next_us - now_us).clamp(ALARM_US_MIN, ALARM_US_MAX);
        let ticks = u32::try_from(wait_us * CLOCK_MHZ).expect("10 ms of ticks fit in 32 bits");
        Registers::TIMER0.write(CTRL, 0);
        Registers::TIMER0.write(RELOAD, ticks);
        Registers::TIMER0.write(VALUE, ticks);
        Registers::TIMER0.write(CTRL, CTRL_ENABLE | CTRL_INTERRUPT);
    }
}

struct Cmsdk(Mutex<RefCell<State>>);

impl Cmsdk {
    fn with<R>(&self, cs: CriticalSection<'_>, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.borrow(cs).borrow_mut())
    }
}

impl Driver for Cmsdk {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.with(cs, State::now_us))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            self.with(cs, |state| {
                if state.queue.schedule_wake(at, waker) {
                    state.advance();
                }
            });
        });
    }
}

embassy_time_driver::time_driver_impl!(static DRIVER: Cmsdk = Cmsdk(Mutex::new(RefCell::new(State {
    queue: Queue::new(),
    last_count: 0,
    high: 0,
}))));

/// Starts the clock at 0 and the alarm.
pub fn start() {
    Registers::TIMER1.write(CTRL, 0);
    Registers::TIMER1.write(RELOAD, u32::MAX);
    Registers::TIMER1.write(VALUE, u32::MAX);
    Registers::TIMER1.write(CTRL, CTRL_ENABLE);
    critical_section::with(|cs| DRIVER.with(cs, State::advance));
    Irq::Timer0.unmask();
}

/// The alarm of TIMER0.
pub fn on_interrupt() {
    Registers::TIMER0.write(INT_CLEAR, 1);
    critical_section::with(|cs| DRIVER.with(cs, State::advance));
}
