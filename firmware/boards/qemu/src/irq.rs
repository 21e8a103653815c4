//! Interrupts. The board has no PAC crate, so all of them arrive in `DefaultHandler`.
#![expect(unsafe_code, reason = "unmasking interrupts and naming handlers")]

use crate::{lan9118, time};
use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};

/// The interrupts this board uses.
#[derive(Clone, Copy)]
pub enum Irq {
    /// The alarm.
    Timer0 = 8,
    /// The LAN9118; its line is active until the driver has set its polarity.
    Ethernet = 13,
}

// SAFETY: the numbers are those of the mps2-an386 interrupt map and do not change.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        self as u16
    }
}

impl Irq {
    /// Lets it interrupt.
    pub fn unmask(self) {
        // SAFETY: no critical section relies on this being masked; they mask all by PRIMASK.
        unsafe { NVIC::unmask(self) };
    }
}

// SAFETY: runs only as an exception handler; what it calls takes its own critical section.
#[cortex_m_rt::exception]
unsafe fn DefaultHandler(number: i16) {
    match number {
        8 => time::on_interrupt(),
        13 => lan9118::on_interrupt(),
        _ => defmt::panic!("interrupt {=i16} is not enabled by this board", number),
    }
}

// SAFETY: does not return, so the state that the fault left is not used.
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!("hard fault at {=u32:#x}", frame.pc());
    semihosting::process::exit(102)
}
