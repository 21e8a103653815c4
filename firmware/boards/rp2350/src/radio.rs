//! The CYW43439 radio, on the RP2350's PIO as the Pico 2 W wires it. The one place that knows cyw43.

use crate::{Irqs, settings};
use cyw43::{Control, JoinOptions, NetDriver, SpiBus, State};
use cyw43_pio::{PioSpi, RM2_CLOCK_DIVIDER};
use embassy_executor::Spawner;
use embassy_net::{Config, Runner, Stack, StackResources};
use embassy_rp::{
    Peri,
    clocks::RoscRng,
    dma,
    gpio::{Level, Output},
    peripherals::{DMA_CH0, PIN_23, PIN_24, PIN_25, PIN_29, PIO0},
    pio::Pio,
};
use embassy_time::{Duration, Timer, with_timeout};
use static_cell::StaticCell;

const SOCKETS: usize = 2;
const JOIN_MAX: Duration = Duration::from_secs(30);
const JOIN_AGAIN: Duration = Duration::from_secs(5);

type RadioRunner = cyw43::Runner<'static, SpiBus<Output<'static>, PioSpi<'static, PIO0, 0>>>;

/// What the radio is wired to.
pub struct Pins {
    pub power: Peri<'static, PIN_23>,
    pub select: Peri<'static, PIN_25>,
    pub data: Peri<'static, PIN_24>,
    pub clock: Peri<'static, PIN_29>,
    pub pio: Peri<'static, PIO0>,
    pub dma: Peri<'static, DMA_CH0>,
}

#[embassy_executor::task]
async fn radio_task(runner: RadioRunner) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn net_task(mut runner: Runner<'static, NetDriver<'static>>) -> ! {
    runner.run().await
}

/// Joins the network, and again whenever it is lost.
#[embassy_executor::task]
async fn join_task(mut control: Control<'static>, stack: Stack<'static>) -> ! {
    loop {
        let options = match settings::WIFI_PASSWORD {
            "" => JoinOptions::new_open(),
            password => JoinOptions::new(password.as_bytes()),
        };
        match with_timeout(JOIN_MAX, control.join(settings::WIFI_SSID, options)).await {
            Ok(Ok(())) => {
                defmt::info!("joined {=str}", settings::WIFI_SSID);
                stack.wait_link_down().await;
                defmt::warn!("the network is gone");
            }
            _ => {
                defmt::warn!("cannot join {=str}: check name and password", settings::WIFI_SSID);
                Timer::after(JOIN_AGAIN).await;
            }
        }
    }
}

/// Starts the radio and the network stack over it; both go on by tasks of their own.
pub async fn start(spawner: Spawner, pins: Pins) -> Stack<'static> {
    const ONCE: &str = "each task is spawned once";
    static STATE: StaticCell<State> = StaticCell::new();
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    let mut pio = Pio::new(pins.pio, Irqs);
    let spi = PioSpi::new(
        &mut pio.common,
        pio.sm0,
        RM2_CLOCK_DIVIDER,
        pio.irq0,
        Output::new(pins.select, Level::High),
        pins.data,
        pins.clock,
        dma::Channel::new(pins.dma, Irqs),
    );
    let power = Output::new(pins.power, Level::Low);
    let state = STATE.init(State::new());
    let (device, mut control, runner) =
        cyw43::new(state, power, spi, &cyw43_setup::FW, &cyw43_setup::NVRAM).await;
    spawner.spawn(radio_task(runner).expect(ONCE));
    control.init(cyw43_setup::CLM).await;
    let resources = RESOURCES.init(StackResources::new());
    let config = Config::dhcpv4(Default::default());
    let (stack, runner) = embassy_net::new(device, config, resources, RoscRng.next_u64());
    spawner.spawn(net_task(runner).expect(ONCE));
    spawner.spawn(join_task(control, stack).expect(ONCE));
    stack
}
