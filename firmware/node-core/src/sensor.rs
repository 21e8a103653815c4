//! The sensor: an SHT4x by its embedded-hal driver, read as decimals.

use embedded_hal_async::{delay::DelayNs, i2c::I2c};
use sht4x::{Error, Precision, Sht4xAsync};

/// Decimal places of both channels: 0.01 °C and 0.01 %RH.
pub const SCALE: u8 = 2;

/// One reading of the chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climate {
    /// In 0.01 °C.
    pub temperature_centi: i32,
    /// In 0.01 %RH.
    pub humidity_centi: i32,
}

impl Climate {
    /// From the chip's raw values (data sheet SHT4x, 4.6: `-45 + 175 * raw / 65535` °C and
    /// `-6 + 125 * raw / 65535` %RH), rounded to the nearest hundredth. A raw step is 0.0027 °C and
    /// 0.0019 %RH, so every hundredth in the chip's range has a raw value that gives it back.
    pub fn from_raw(temperature: u16, humidity: u16) -> Self {
        Self {
            temperature_centi: -4500 + scaled(temperature, 17_500),
            humidity_centi: -600 + scaled(humidity, 12_500),
        }
    }

    /// In the order of the node's channels.
    pub fn values(self) -> [i64; 2] {
        [self.temperature_centi.into(), self.humidity_centi.into()]
    }
}

fn scaled(raw: u16, span: u32) -> i32 {
    const FULL: u32 = u16::MAX as u32;
    ((u32::from(raw) * span + FULL / 2) / FULL) as i32
}

/// Why there is no reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorError {
    /// The chip does not answer: check its wires and address.
    Bus,
    /// What the chip said fails its CRC: check wire lengths and pull-ups.
    Crc,
}

impl core::fmt::Display for SensorError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Bus => "the sensor does not answer: check its wires and address",
            Self::Crc => "the sensor's answer fails its CRC: check wire lengths and pull-ups",
        })
    }
}

impl core::error::Error for SensorError {}

/// An SHT4x at its usual address, 0x44.
pub struct Sensor<I, D> {
    driver: Sht4xAsync<I, D>,
    delay: D,
}

impl<I: I2c, D: DelayNs> Sensor<I, D> {
    /// The chip on `i2c`; `delay` is how the driver waits for a measurement.
    pub fn new(i2c: I, delay: D) -> Self {
        Self { driver: Sht4xAsync::new(i2c), delay }
    }

    /// Measures with high precision, which takes 9 ms.
    ///
    /// # Errors
    /// [`SensorError`]; the next read starts afresh.
    pub async fn read(&mut self) -> Result<Climate, SensorError> {
        match self.driver.measure_raw(Precision::High, &mut self.delay).await {
            Ok(raw) => Ok(Climate::from_raw(raw.temperature, raw.humidity)),
            Err(Error::Crc) => Err(SensorError::Crc),
            Err(_) => Err(SensorError::Bus),
        }
    }
}
