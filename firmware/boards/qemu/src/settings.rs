//! Settings from the emulator's command line: semihosting arguments `key=value`.

use core::{ffi::CStr, num::NonZeroU32, str::FromStr};
use heapless::{CString, String};
use node_core::SealPolicy;
use semihosting::experimental::env;

/// The longest command line, of all settings.
const LINE_BYTES_MAX: usize = 1024;
/// The longest path.
const PATH_BYTES_MAX: usize = 256;

/// A path on the host.
pub type HostPath = CString<PATH_BYTES_MAX>;

/// What the host has set.
pub struct Settings {
    /// `id`: the node id.
    pub id: String<32>,
    /// `period_ms`: from reading to reading.
    pub period_ms: NonZeroU32,
    /// `readings` and `age_ms`: when a block is sealed.
    pub seal: SealPolicy,
    /// `flash`: the file that is the node's flash.
    pub flash: HostPath,
    /// `world`: what there is to measure.
    pub world: HostPath,
    /// `pos`: how far the world has gone.
    pub position: HostPath,
}

/// A setting that is missing, unknown or wrong.
#[derive(Clone, Debug, defmt::Format)]
pub struct SettingsError {
    /// Which.
    pub setting: String<48>,
    /// What about it.
    pub why: &'static str,
}

impl Settings {
    /// Reads the command line.
    ///
    /// # Errors
    /// [`SettingsError`] for the first that does not do.
    pub fn read() -> Result<Self, SettingsError> {
        let mut settings = Self {
            id: String::new(),
            period_ms: const { NonZeroU32::new(1000).expect("1000 is not 0") },
            seal: SealPolicy { readings_max: 64, age_ms_max: 60_000 },
            flash: CString::new(),
            world: CString::new(),
            position: CString::new(),
        };
        let line = env::args::<LINE_BYTES_MAX>()
            .map_err(|_| error("arg", "the command line is longer than 1024 bytes"))?;
        for argument in (&line).skip(1) {
            let argument = argument.map_err(|_| error("arg", "is not UTF-8"))?;
            let (key, value) =
                argument.split_once('=').ok_or_else(|| error(argument, "is not key=value"))?;
            settings.set(key, value).map_err(|why| error(argument, why))?;
        }
        let paths = [
            ("flash=FILE", &settings.flash),
            ("world=FILE", &settings.world),
            ("pos=FILE", &settings.position),
        ];
        let missing = paths.into_iter().find(|(_, path)| path.to_bytes().is_empty());
        match missing.map(|(name, _)| name) {
            Some(name) => Err(error(name, "is missing")),
            None if settings.id.is_empty() => Err(error("id=NAME", "is missing")),
            None => Ok(settings),
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        match key {
            "id" => self.id = value.try_into().map_err(|_| "is longer than 32 bytes")?,
            "period_ms" => self.period_ms = number(value)?,
            "readings" => self.seal.readings_max = number(value)?,
            "age_ms" => self.seal.age_ms_max = number(value)?,
            "flash" => self.flash = path(value)?,
            "world" => self.world = path(value)?,
            "pos" => self.position = path(value)?,
            _ => return Err("is unknown: there are id period_ms readings age_ms flash world pos"),
        }
        Ok(())
    }
}

fn error(setting: &str, why: &'static str) -> SettingsError {
    let setting = setting.chars().take(12).collect();
    SettingsError { setting, why }
}

fn number<T: FromStr>(value: &str) -> Result<T, &'static str> {
    value.parse().map_err(|_| "is not a number in range")
}

fn path(value: &str) -> Result<HostPath, &'static str> {
    let mut path = HostPath::new();
    path.extend_from_bytes(value.as_bytes()).map_err(|_| "is longer than 255 bytes")?;
    Ok(path)
}

/// What the file functions take.
pub fn as_c_str(path: &HostPath) -> &CStr {
    path
}
