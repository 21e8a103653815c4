//! embassy-net driver for the SMSC LAN9118 Ethernet controller in PIO mode, as QEMU emulates it.

use crate::{irq::Irq, mmio::Registers};
use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5C;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7C;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xA4;
const MAC_CSR_DATA: usize = 0xA8;

const BYTE_TEST_VALUE: u32 = 0x8765_4321;
const HW_CFG_RESET: u32 = 1;
const HW_CFG_STORE_AND_FORWARD: u32 = 0x5_0000;
const TX_CFG_ON: u32 = 2;
/// Interrupt output on, active high, push-pull.
const IRQ_CFG_ON: u32 = 0x111;
/// RX status FIFO level above FIFO_INT[7:0].
const INT_RX_STATUS_LEVEL: u32 = 1 << 3;
const MAC_CSR_BUSY: u32 = 1 << 31;
const MAC_CSR_READ: u32 = 1 << 30;
const MAC_CR: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
const MAC_CR_RX_TX_ON: u32 = 0xC;
const TX_FIRST_AND_LAST: u32 = 1 << 13 | 1 << 12;
/// The two command words before a frame.
const TX_COMMAND_BYTES: usize = 8;

const FRAME_BYTES_MAX: usize = 1514;
const FCS_BYTES: usize = 4;
const FRAME_WORDS: usize = (FRAME_BYTES_MAX + FCS_BYTES).div_ceil(4);
const POLLS_MAX: u32 = 1_000_000;

const CHIP: Registers = Registers::LAN9118;
static RX_WAKER: AtomicWaker = AtomicWaker::new();

/// The controller does not answer as a LAN9118 does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, defmt::Format)]
pub struct NotFound;

/// The controller, started.
pub struct Lan9118 {
    mac: [u8; 6],
    frame: [u8; FRAME_WORDS * 4],
}

impl Lan9118 {
    /// Resets and starts the controller.
    ///
    /// # Errors
    /// [`NotFound`] if there is none at its address, or it does not leave reset.
    pub fn start() -> Result<Self, NotFound> {
        if CHIP.read(BYTE_TEST) != BYTE_TEST_VALUE {
            return Err(NotFound);
        }
        CHIP.write(HW_CFG, HW_CFG_RESET);
        wait_until(|| CHIP.read(HW_CFG) & HW_CFG_RESET == 0)?;
        CHIP.write(HW_CFG, HW_CFG_STORE_AND_FORWARD);
        CHIP.write(TX_CFG, TX_CFG_ON);
        mac_write(MAC_CR, MAC_CR_RX_TX_ON)?;
        CHIP.write(IRQ_CFG, IRQ_CFG_ON);
        CHIP.write(FIFO_INT, CHIP.read(FIFO_INT) & !0xFF);
        CHIP.write(INT_EN, INT_RX_STATUS_LEVEL);
        Irq::Ethernet.unmask();
        let low = mac_read(MAC_ADDRESS_LOW)?.to_le_bytes();
        let high = mac_read(MAC_ADDRESS_HIGH)?.to_le_bytes();
        let mac = [low[0], low[1], low[2], low[3], high[0], high[1]];
        Ok(Self { mac, frame: [0; FRAME_WORDS * 4] })
    }

    /// The MAC address that the controller was given.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }
}

/// A frame has arrived: no further interrupt until the stack has taken it.
pub fn on_interrupt() {
    CHIP.write(INT_EN, 0);
    CHIP.write(INT_STS, INT_RX_STATUS_LEVEL);
    RX_WAKER.wake();
}

fn wait_until(mut done: impl FnMut() -> bool) -> Result<(), NotFound> {
    (0..POLLS_MAX).any(|_| done()).then_some(()).ok_or(NotFound)
}

fn mac_idle() -> Result<(), NotFound> {
    wait_until(|| CHIP.read(MAC_CSR_CMD) & MAC_CSR_BUSY == 0)
}

fn mac_write(register: u32, value: u32) -> Result<(), NotFound> {
    mac_idle()?;
    CHIP.write(MAC_CSR_DATA, value);
    CHIP.write(MAC_CSR_CMD, MAC_CSR_BUSY | register);
    mac_idle()
}

fn mac_read(register: u32) -> Result<u32, NotFound> {
    mac_idle()?;
    CHIP.write(MAC_CSR_CMD, MAC_CSR_BUSY | MAC_CSR_READ | register);
    mac_idle()?;
    Ok(CHIP.read(MAC_CSR_DATA))
}

fn rx_pending() -> bool {
    CHIP.read(RX_FIFO_INF) >> 16 & 0xFF != 0
}

/// Room for the longest frame; forgets the results of frames sent, which nothing here uses.
fn tx_ready() -> bool {
    while CHIP.read(TX_FIFO_INF) >> 16 & 0xFF != 0 {
        CHIP.read(TX_STATUS);
    }
    let free_bytes = (CHIP.read(TX_FIFO_INF) & 0xFFFF) as usize;
    free_bytes >= FRAME_BYTES_MAX + TX_COMMAND_BYTES
}

impl Driver for Lan9118 {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Rx<'_>, Tx)> {
        RX_WAKER.register(cx.waker());
        if !rx_pending() || !tx_ready() {
            CHIP.write(INT_EN, INT_RX_STATUS_LEVEL);
            return None;
        }
        Some((Rx { frame: &mut self.frame }, Tx))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Tx> {
        if tx_ready() {
            return Some(Tx);
        }
        // The emulated chip sends at once, so the next look finds room.
        cx.waker().wake_by_ref();
        None
    }

    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES_MAX;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}

/// A frame waits in the RX FIFO.
pub struct Rx<'a> {
    frame: &'a mut [u8; FRAME_WORDS * 4],
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        let with_fcs = (CHIP.read(RX_STATUS) >> 16 & 0x3FFF) as usize;
        for index in 0..with_fcs.div_ceil(4) {
            let word = CHIP.read(RX_DATA).to_le_bytes();
            if let Some(place) = self.frame.get_mut(index * 4..index * 4 + 4) {
                place.copy_from_slice(&word);
            }
        }
        let bytes = with_fcs.saturating_sub(FCS_BYTES).min(FRAME_BYTES_MAX);
        f(&mut self.frame[..bytes])
    }
}

/// The TX FIFO has room for a frame.
pub struct Tx;

impl TxToken for Tx {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = [0; FRAME_WORDS * 4];
        let result = f(&mut frame[..len]);
        let length = len as u32;
        CHIP.write(TX_DATA, TX_FIRST_AND_LAST | length);
        CHIP.write(TX_DATA, length);
        for word in frame[..len.next_multiple_of(4)].chunks_exact(4) {
            CHIP.write(TX_DATA, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        result
    }
}
