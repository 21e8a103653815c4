//! The sampling loop.

use crate::SharedNode;
use core::num::NonZeroU32;
use embassy_time::{Instant, Timer};
use embedded_hal_async::{delay::DelayNs, i2c::I2c};
use embedded_storage::nor_flash::NorFlash;
use node_core::{Sampler, Sensor};

/// Takes a reading every `period_ms`, for as long as the board runs.
pub async fn sample<F: NorFlash, I: I2c, D: DelayNs>(
    node: &SharedNode<F>,
    mut sensor: Sensor<I, D>,
    period_ms: NonZeroU32,
) -> ! {
    let mut sampler = Sampler::new(Instant::now().as_millis(), period_ms);
    let mut missed = 0;
    let mut is_silent = false;
    loop {
        Timer::at(Instant::from_millis(sampler.due_ms())).await;
        let Some(time_ms) = sampler.take(Instant::now().as_millis()) else { continue };
        if sampler.missed() != missed {
            missed = sampler.missed();
            defmt::warn!("{=u64} slots missed since boot", missed);
        }
        let sealed = match sensor.read().await {
            Ok(climate) => {
                is_silent = false;
                node.with(|node, _| node.sample(time_ms, &climate.values()))
                    .expect("the sensor's two values are the node's two channels")
            }
            Err(error) => {
                if !is_silent {
                    defmt::error!("no reading: {}", defmt::Display2Format(&error));
                }
                is_silent = true;
                node.with(|node, now_ms| node.reading_failed(now_ms))
            }
        };
        if sealed {
            node.announce_sealed();
        }
    }
}
