//! The node on QEMU's mps2-an386: a Cortex-M4 with LAN9118 Ethernet. The flash, the sensor's world
//! and the settings come from the host by semihosting; everything else is what a real board runs.
#![no_std]
#![no_main]

mod executor;
mod flash;
mod irq;
mod lan9118;
mod mmio;
mod settings;
mod time;
mod world;

use core::net::Ipv4Addr;
use defmt::{Debug2Format, Display2Format};
use defmt_semihosting as _;
use embassy_executor::Spawner;
use embassy_net::{Config, IpEndpoint, Runner, Stack, StackResources};
use embassy_time::{Delay, Instant};
use flash::HostFlash;
use lan9118::Lan9118;
use node_core::{ChannelConfig, Node, NodeConfig, SCALE, Sensor, SessionPolicy, sim_chip::SimChip};
use node_shell::{Gateway, SharedNode, TalkBuffers, sample, talk};
use settings::{Settings, as_c_str};
use static_cell::{ConstStaticCell, StaticCell};
use world::HostWorld;

const FLASH_BYTES: u32 = 64 * 1024;
/// The host's side of QEMU's `guestfwd`.
const GATEWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 2, 100), 1883);
const SOCKETS: usize = 2;

/// Exit codes of the emulator; 101 is a panic, 102 a hard fault.
const EXIT_SETTINGS: i32 = 2;
const EXIT_BOOT: i32 = 3;

type Chip = SimChip<HostWorld, fn() -> u64>;

defmt::timestamp!("{=u64:us}", Instant::now().as_micros());

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    defmt::error!("{}", Display2Format(info));
    semihosting::process::exit(101)
}

fn now_us() -> u64 {
    Instant::now().as_micros()
}

fn boot(settings: &Settings) -> (&'static SharedNode<HostFlash>, Sensor<Chip, Delay>) {
    static NODE: StaticCell<SharedNode<HostFlash>> = StaticCell::new();
    let stop = |what: &str, why: &dyn core::fmt::Debug| -> ! {
        defmt::error!("{=str}: {}", what, Debug2Format(&why));
        semihosting::process::exit(EXIT_BOOT)
    };
    let world = HostWorld::open(&settings.world, &settings.position)
        .unwrap_or_else(|error| stop("world", &error));
    let flash =
        HostFlash::open(as_c_str(&settings.flash)).unwrap_or_else(|error| stop("flash", &error));
    let config = NodeConfig {
        id: &settings.id,
        firmware: concat!("headwater-qemu ", env!("CARGO_PKG_VERSION")),
        period_ms: settings.period_ms,
        channels: &[
            ChannelConfig { name: "temperature", unit: "°C", scale: SCALE },
            ChannelConfig { name: "humidity", unit: "%RH", scale: SCALE },
        ],
        seal: settings.seal,
        session: SessionPolicy::default(),
    };
    let seed = settings.id.bytes().fold(0, |seed: u32, byte| seed.rotate_left(5) ^ u32::from(byte));
    let node = Node::boot(flash, 0..FLASH_BYTES, &config, seed)
        .unwrap_or_else(|error| stop("node", &error));
    defmt::info!(
        "boot epoch {=u32}, world position {=u32}, {=u64} blocks waiting",
        node.boot_epoch(),
        world.position(),
        node.blocks_waiting()
    );
    let chip = SimChip::new(world, now_us as fn() -> u64);
    (NODE.init(SharedNode::new(node)), Sensor::new(chip, Delay))
}

#[embassy_executor::task]
async fn net_task(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn sample_task(
    node: &'static SharedNode<HostFlash>,
    sensor: Sensor<Chip, Delay>,
    period_ms: core::num::NonZeroU32,
) -> ! {
    sample(node, sensor, period_ms).await
}

#[embassy_executor::task]
async fn talk_task(node: &'static SharedNode<HostFlash>, stack: Stack<'static>) -> ! {
    static BUFFERS: ConstStaticCell<TalkBuffers> = ConstStaticCell::new(TalkBuffers::new());
    let endpoint = IpEndpoint::from(GATEWAY);
    talk(node, stack, Gateway { endpoint, login: None }, BUFFERS.take()).await
}

fn start(spawner: Spawner) {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let settings = Settings::read().unwrap_or_else(|error| {
        defmt::error!("{}", error);
        semihosting::process::exit(EXIT_SETTINGS)
    });
    let (node, sensor) = boot(&settings);
    let driver = Lan9118::start().expect("the emulated board has a LAN9118");
    let seed = now_us() ^ u64::from_be_bytes([0, 0, 0, 0, driver.mac()[4], driver.mac()[5], 0, 0]);
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(driver, Config::dhcpv4(Default::default()), resources, seed);
    const ONCE: &str = "each task is spawned once";
    spawner.spawn(net_task(runner).expect(ONCE));
    spawner.spawn(sample_task(node, sensor, settings.period_ms).expect(ONCE));
    spawner.spawn(talk_task(node, stack).expect(ONCE));
}

#[cortex_m_rt::entry]
fn main() -> ! {
    time::start();
    executor::run(start)
}
