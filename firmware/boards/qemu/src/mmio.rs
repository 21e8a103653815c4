//! Registers of the emulated board, by address.
#![expect(unsafe_code, reason = "the one place that touches device memory")]

/// A block of 32-bit device registers at a fixed address.
#[derive(Clone, Copy)]
pub struct Registers(usize);

impl Registers {
    /// The LAN9118 Ethernet controller.
    pub const LAN9118: Self = Self(0x4020_0000);
    /// CMSDK timer 0.
    pub const TIMER0: Self = Self(0x4000_0000);
    /// CMSDK timer 1.
    pub const TIMER1: Self = Self(0x4000_1000);

    /// Reads the register at `offset` bytes.
    pub fn read(self, offset: usize) -> u32 {
        // SAFETY: the constants above are device memory of mps2-an386, and every offset used in
        // this crate is a 32-bit register of that device; reading has no effect on Rust's memory.
        unsafe { ((self.0 + offset) as *const u32).read_volatile() }
    }

    /// Writes the register at `offset` bytes.
    pub fn write(self, offset: usize, value: u32) {
        // SAFETY: as for `read`; none of these devices is given an address to write to (no DMA).
        unsafe { ((self.0 + offset) as *mut u32).write_volatile(value) }
    }
}
