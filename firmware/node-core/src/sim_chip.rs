//! A simulated SHT4x behind embedded-hal's I2C traits, for hosts and emulators: commands, CRCs,
//! measurement time, and no answer while it measures (data sheet SHT4x, sections 4.1 to 4.6).

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

const ADDRESS: u8 = 0x44;
const SERIAL: [u8; 4] = [0x0D, 0x5E, 0x11, 0x57];
const MEASURE_HIGH: u8 = 0xFD;
const MEASURE_MEDIUM: u8 = 0xF6;
const MEASURE_LOW: u8 = 0xE0;
const READ_SERIAL: u8 = 0x89;
const SOFT_RESET: u8 = 0x94;
const NACK: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

/// What there is to measure.
pub trait World {
    /// The next state of the world, as 0.01 °C and 0.01 %RH; each measurement takes one. `None`: the
    /// world has ended, and the chip falls silent.
    fn next(&mut self) -> Option<(i32, i32)>;
}

impl<I: Iterator<Item = (i32, i32)>> World for I {
    fn next(&mut self) -> Option<(i32, i32)> {
        Iterator::next(self)
    }
}

/// The chip: `clock` gives the µs that it counts its measurement time by.
pub struct SimChip<W, C> {
    world: W,
    clock: C,
    answer: Option<Answer>,
}

struct Answer {
    ready_us: u64,
    bytes: [u8; 6],
}

impl<W: World, C: FnMut() -> u64> SimChip<W, C> {
    /// A chip that has just got power.
    pub fn new(world: W, clock: C) -> Self {
        Self { world, clock, answer: None }
    }

    fn command(&mut self, code: u8) -> Result<(), ErrorKind> {
        let now_us = (self.clock)();
        if self.answer.as_ref().is_some_and(|answer| now_us < answer.ready_us) {
            return Err(NACK);
        }
        self.answer = None;
        let duration_us = match code {
            MEASURE_HIGH => 8_300,
            MEASURE_MEDIUM => 4_500,
            MEASURE_LOW => 1_600,
            READ_SERIAL => {
                self.answer = Some(Answer { ready_us: now_us, bytes: with_crcs(SERIAL) });
                return Ok(());
            }
            SOFT_RESET => return Ok(()),
            _ => return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Data)),
        };
        let (temperature_centi, humidity_centi) = self.world.next().ok_or(NACK)?;
        let [t0, t1] = raw(temperature_centi + 4500, 17_500).to_be_bytes();
        let [h0, h1] = raw(humidity_centi + 600, 12_500).to_be_bytes();
        let bytes = with_crcs([t0, t1, h0, h1]);
        self.answer = Some(Answer { ready_us: now_us + duration_us, bytes });
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), ErrorKind> {
        let now_us = (self.clock)();
        let answer = self.answer.take_if(|answer| now_us >= answer.ready_us).ok_or(NACK)?;
        // A master that clocks out more than the answer reads the idle bus.
        buffer.fill(0xFF);
        buffer.iter_mut().zip(answer.bytes).for_each(|(place, byte)| *place = byte);
        Ok(())
    }
}

impl<W, C> ErrorType for SimChip<W, C> {
    type Error = ErrorKind;
}

impl<W: World, C: FnMut() -> u64> I2c for SimChip<W, C> {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), ErrorKind> {
        if address != ADDRESS {
            return Err(NACK);
        }
        operations.iter_mut().try_for_each(|operation| match operation {
            Operation::Write(bytes) => bytes.iter().try_for_each(|&code| self.command(code)),
            Operation::Read(buffer) => self.read(buffer),
        })
    }
}

impl<W: World, C: FnMut() -> u64> embedded_hal_async::i2c::I2c for SimChip<W, C> {
    async fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), ErrorKind> {
        I2c::transaction(self, address, operations)
    }
}

/// The raw value nearest to `centi` hundredths above the low end of a range of `span` hundredths.
fn raw(centi: i32, span: i32) -> u16 {
    let centi = i64::from(centi.clamp(0, span));
    let span = i64::from(span);
    ((centi * i64::from(u16::MAX) + span / 2) / span) as u16
}

/// Each two bytes followed by their CRC-8.
fn with_crcs(words: [u8; 4]) -> [u8; 6] {
    let [a, b, c, d] = words;
    [a, b, crc8([a, b]), c, d, crc8([c, d])]
}

/// Polynomial 0x31, start 0xFF (data sheet SHT4x, table 7).
fn crc8(bytes: [u8; 2]) -> u8 {
    bytes.into_iter().fold(0xFF, |crc, byte| {
        (0..8).fold(
            crc ^ byte,
            |crc: u8, _| {
                if crc & 0x80 == 0 { crc << 1 } else { crc << 1 ^ 0x31 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::sensor::{Climate, Sensor, SensorError};
    use core::{cell::Cell, pin::pin, task};
    use std::{rc::Rc, vec::Vec};

    /// Delays that pass simulated time at once, so a future never has to wait.
    struct SimDelay(Rc<Cell<u64>>, u64);

    impl embedded_hal_async::delay::DelayNs for SimDelay {
        async fn delay_ns(&mut self, ns: u32) {
            self.0.set(self.0.get() + u64::from(ns) / 1000 * self.1 / 100);
        }
    }

    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut task::Context::from_waker(task::Waker::noop())) {
            task::Poll::Ready(output) => output,
            task::Poll::Pending => panic!("nothing here waits"),
        }
    }

    /// A sensor that waits `percent` of what its driver asks for.
    fn sensor_over<W: World>(
        world: W,
        percent: u64,
    ) -> Sensor<SimChip<W, impl FnMut() -> u64>, SimDelay> {
        let clock_us = Rc::new(Cell::new(0));
        let for_chip = clock_us.clone();
        Sensor::new(SimChip::new(world, move || for_chip.get()), SimDelay(clock_us, percent))
    }

    #[test]
    fn every_hundredth_in_range_passes_the_chip_unchanged() {
        let temperatures = -4500..=13_000;
        let humidities = (-600..=11_900).cycle();
        let world: Vec<_> = temperatures.zip(humidities).collect();
        let mut sensor = sensor_over(world.clone().into_iter(), 100);
        for (temperature_centi, humidity_centi) in world {
            let expected = Climate { temperature_centi, humidity_centi };
            assert_eq!(now(sensor.read()), Ok(expected));
        }
        assert_eq!(now(sensor.read()), Err(SensorError::Bus), "the world has ended");
    }

    #[test]
    fn a_driver_that_does_not_wait_gets_no_answer() {
        let mut sensor = sensor_over([(2179, 4550), (2180, 4551)].into_iter(), 50);
        assert_eq!(now(sensor.read()), Err(SensorError::Bus));
    }

    #[test]
    fn the_crc_is_the_one_of_the_data_sheet() {
        assert_eq!(crc8([0xBE, 0xEF]), 0x92);
    }

    #[test]
    fn another_address_and_an_unknown_command_are_not_acknowledged() {
        let mut chip = SimChip::new([(0, 0)].into_iter(), || 0);
        assert_eq!(I2c::write(&mut chip, 0x45, &[MEASURE_HIGH]), Err(NACK));
        assert!(I2c::write(&mut chip, ADDRESS, &[0x00]).is_err());
        let mut serial = [0; 6];
        assert_eq!(I2c::write(&mut chip, ADDRESS, &[READ_SERIAL]), Ok(()));
        assert_eq!(I2c::read(&mut chip, ADDRESS, &mut serial), Ok(()));
        assert_eq!(serial, with_crcs(SERIAL));
        assert_eq!(
            I2c::read(&mut chip, ADDRESS, &mut serial),
            Err(NACK),
            "an answer is given once"
        );
    }
}
