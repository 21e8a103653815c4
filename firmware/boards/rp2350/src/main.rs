//! The node on a Raspberry Pi Pico 2 W: RP2350, CYW43439 radio, SHT4x on I2C. The same node-core and
//! loops as on every board; README.md says how to wire, configure and flash it.
#![no_std]
#![no_main]

mod radio;
mod settings;

use defmt::{Debug2Format, Display2Format};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::Stack;
use embassy_rp::{
    bind_interrupts,
    clocks::RoscRng,
    dma,
    flash::{Blocking, Flash},
    i2c::{self, I2c},
    peripherals::{DMA_CH0, FLASH, I2C0, PIO0},
    pio,
    watchdog::Watchdog,
};
use embassy_time::{Delay, Duration, Instant, Timer};
use node_core::{ChannelConfig, Node, NodeConfig, SCALE, SealPolicy, Sensor, SessionPolicy};
use node_shell::{Gateway, SharedNode, TalkBuffers, sample, talk};
use static_cell::{ConstStaticCell, StaticCell};

const FLASH_BYTES: usize = 4 * 1024 * 1024;
/// What memory.x keeps free at the end of flash.
const NODE_FLASH_BYTES: u32 = 256 * 1024;
const WATCHDOG_MAX: Duration = Duration::from_secs(8);
const WATCHDOG_EVERY: Duration = Duration::from_secs(2);

type NodeFlash = Flash<'static, FLASH, Blocking, FLASH_BYTES>;
type Bus = I2c<'static, I2C0, i2c::Async>;

bind_interrupts!(struct Irqs {
    PIO0_IRQ_0 => pio::InterruptHandler<PIO0>;
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>;
    I2C0_IRQ => i2c::InterruptHandler<I2C0>;
});

defmt::timestamp!("{=u64:us}", Instant::now().as_micros());

/// A node in the field starts again: its flash has all but the block in the making.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    defmt::error!("{}", Display2Format(info));
    cortex_m::peripheral::SCB::sys_reset()
}

fn boot(flash: NodeFlash) -> SharedNode<NodeFlash> {
    let config = NodeConfig {
        id: settings::NODE_ID,
        firmware: concat!("headwater-rp2350 ", env!("CARGO_PKG_VERSION")),
        period_ms: settings::period_ms(),
        channels: &[
            ChannelConfig { name: "temperature", unit: "°C", scale: SCALE },
            ChannelConfig { name: "humidity", unit: "%RH", scale: SCALE },
        ],
        seal: SealPolicy { readings_max: 64, age_ms_max: 60_000 },
        session: SessionPolicy::default(),
    };
    let end = FLASH_BYTES as u32;
    match Node::boot(flash, end - NODE_FLASH_BYTES..end, &config, RoscRng.next_u32()) {
        Ok(node) => {
            let waiting = node.blocks_waiting();
            defmt::info!("boot epoch {=u32}, {=u64} blocks waiting", node.boot_epoch(), waiting);
            SharedNode::new(node)
        }
        Err(error) => defmt::panic!("the node cannot start: {}", Debug2Format(&error)),
    }
}

#[embassy_executor::task]
async fn sample_task(node: &'static SharedNode<NodeFlash>, sensor: Sensor<Bus, Delay>) -> ! {
    sample(node, sensor, settings::period_ms()).await
}

#[embassy_executor::task]
async fn talk_task(node: &'static SharedNode<NodeFlash>, stack: Stack<'static>) -> ! {
    static BUFFERS: ConstStaticCell<TalkBuffers> = ConstStaticCell::new(TalkBuffers::new());
    let gateway = Gateway { endpoint: settings::gateway(), login: settings::login() };
    talk(node, stack, gateway, BUFFERS.take()).await
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    const ONCE: &str = "each task is spawned once";
    static NODE: StaticCell<SharedNode<NodeFlash>> = StaticCell::new();
    let board = embassy_rp::init(Default::default());
    let mut watchdog = Watchdog::new(board.WATCHDOG);
    watchdog.pause_on_debug(true);
    watchdog.start(WATCHDOG_MAX);

    let node = NODE.init(boot(Flash::new_blocking(board.FLASH)));
    let bus = I2c::new_async(board.I2C0, board.PIN_5, board.PIN_4, Irqs, i2c::Config::default());
    spawner.spawn(sample_task(node, Sensor::new(bus, Delay)).expect(ONCE));

    let pins = radio::Pins {
        power: board.PIN_23,
        select: board.PIN_25,
        data: board.PIN_24,
        clock: board.PIN_29,
        pio: board.PIO0,
        dma: board.DMA_CH0,
    };
    // The radio's start takes seconds; the watchdog is fed from here on by this task alone.
    watchdog.feed(WATCHDOG_MAX);
    let stack = radio::start(spawner, pins).await;
    spawner.spawn(talk_task(node, stack).expect(ONCE));
    loop {
        watchdog.feed(WATCHDOG_MAX);
        Timer::after(WATCHDOG_EVERY).await;
    }
}
