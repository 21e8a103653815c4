//! The world around the simulated sensor: a file with one state a line, `<0.01 °C> <0.01 %RH>`, and
//! a file with how many have passed. The world goes on while the node restarts.

use crate::settings::{HostPath, as_c_str};
use core::fmt::Write as _;
use heapless::String;
use node_core::sim_chip::World;
use semihosting::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

const CHUNK: usize = 512;
/// A position is written as this many digits and a line feed, always in the same place.
const POSITION_DIGITS: usize = 10;

/// The world, at its position.
pub struct HostWorld {
    states: File,
    chunk: [u8; CHUNK],
    read: usize,
    used: usize,
    position_file: File,
    position: u32,
}

impl HostWorld {
    /// Opens the world where its position says; without one, at its start.
    ///
    /// # Errors
    /// If the host does not let the files be used.
    pub fn open(states: &HostPath, position: &HostPath) -> io::Result<Self> {
        let states = File::open(as_c_str(states))?;
        let path = as_c_str(position);
        let mut options = File::options();
        options.read(true).write(true);
        let (position_file, position) = match options.open(path) {
            Ok(mut file) => {
                let position = read_position(&mut file);
                (file, position)
            }
            Err(_) => (options.create(true).truncate(true).open(path)?, 0),
        };
        let mut world =
            Self { states, chunk: [0; CHUNK], read: 0, used: 0, position_file, position };
        for _ in 0..position {
            world.line();
        }
        Ok(world)
    }

    /// States that have passed.
    pub fn position(&self) -> u32 {
        self.position
    }

    fn byte(&mut self) -> Option<u8> {
        if self.used == self.read {
            self.read = self.states.read(&mut self.chunk).unwrap_or(0);
            self.used = 0;
        }
        let byte = *self.chunk[..self.read].get(self.used)?;
        self.used += 1;
        Some(byte)
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String<32>> {
        let mut line = String::new();
        loop {
            match self.byte() {
                Some(b'\n') => return Some(line),
                // What is longer than any state is not one, and is refused when parsed.
                Some(byte) => line.push(char::from(byte)).unwrap_or_default(),
                None if line.is_empty() => return None,
                None => return Some(line),
            }
        }
    }

    fn pass(&mut self) -> io::Result<()> {
        self.position += 1;
        let mut text: String<{ POSITION_DIGITS + 1 }> = String::new();
        writeln!(text, "{:010}", self.position).expect("a u32 has at most ten digits");
        self.position_file.seek(SeekFrom::Start(0))?;
        self.position_file.write_all(text.as_bytes())
    }
}

fn read_position(file: &mut File) -> u32 {
    let mut digits = [0; POSITION_DIGITS];
    file.read_exact(&mut digits).ok();
    core::str::from_utf8(&digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl World for HostWorld {
    fn next(&mut self) -> Option<(i32, i32)> {
        let line = self.line()?;
        let (temperature, humidity) = line.trim().split_once(' ')?;
        let state = (temperature.parse().ok()?, humidity.trim().parse().ok()?);
        self.pass().ok()?;
        Some(state)
    }
}
