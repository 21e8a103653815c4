//! The node on QEMU's mps2-an386: a Cortex-M4 with LAN9118 Ethernet. The flash, the sensor's world
//! and the settings come from the host by semihosting; everything else is what a real board runs.
#![no_std]
#![no_main]
#![allow(missing_docs)]

mod executor;
mod irq;
mod lan9118;
mod mmio;
mod time;

use defmt_semihosting as _;
use embassy_executor::Spawner;
use embassy_net::{Config, Stack, StackResources};
use embassy_time::{Duration, Instant, Timer};
use lan9118::Lan9118;
use static_cell::StaticCell;

defmt::timestamp!("{=u64:us}", Instant::now().as_micros());

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    semihosting::process::exit(101)
}

#[embassy_executor::task]
async fn net_task(mut runner: embassy_net::Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn main_task(spawner: Spawner) {
    defmt::info!("hello");
    let driver = Lan9118::start().unwrap();
    static RES: StaticCell<StackResources<3>> = StaticCell::new();
    let (stack, runner) = embassy_net::new(driver, Config::dhcpv4(Default::default()), RES.init(StackResources::new()), 1234);
    spawner.spawn(net_task(runner).unwrap());
    stack.wait_config_up().await;
    defmt::info!("up {}", defmt::Debug2Format(&stack.config_v4()));
    for i in 0..20 {
        Timer::after(Duration::from_millis(25)).await;
        defmt::info!("tick {}", i);
    }
    static RX: StaticCell<[u8; 1024]> = StaticCell::new();
    static TX: StaticCell<[u8; 1024]> = StaticCell::new();
    let mut sock = embassy_net::tcp::TcpSocket::new(stack, RX.init([0; 1024]), TX.init([0; 1024]));
    let r = sock.connect((core::net::Ipv4Addr::new(10, 0, 2, 100), 1883)).await;
    defmt::info!("connected {}", defmt::Debug2Format(&r));
    let mut rx = [0u8; 256];
    let mut tx = [0u8; 1024];
    let mut s = minimq::Session::new(minimq::ConfigBuilder::new(minimq::Buffers::new(&mut rx, &mut tx)).client_id("n").unwrap());
    let mut c = s.connect(sock).await.unwrap();
    let t = Instant::now();
    for i in 0..1000u32 {
        let op = c.publish(minimq::Publication::bytes("a/b", &i.to_le_bytes()).qos(minimq::QoS::AtLeastOnce)).await.unwrap().unwrap();
        while !c.is_complete(&op) {
            c.poll().await.unwrap();
        }
    }
    defmt::info!("1000 in {} us", t.elapsed().as_micros());
    semihosting::process::exit(0)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let peripherals = cortex_m::Peripherals::take().expect("main is entered once");
    drop(peripherals);
    time::start();
    executor::run(|spawner| spawner.spawn(main_task(spawner).expect("the first and only spawn")))
}
