//! The node's log: defmt frames, decoded with the strings of its ELF file. The one place that knows
//! the decoder.

use crate::qemu::QemuError;
use defmt_decoder::{DecodeError, Table};
use std::{
    fs,
    io::Read,
    mem,
    path::Path,
    process::ChildStdout,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

const POISONED: &str = "no reader of the log panics while it holds it";

/// Collects the lines of one node over all its starts.
pub(crate) struct LogReader {
    table: Arc<Table>,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl LogReader {
    /// Takes the strings from the ELF file.
    pub(crate) fn new(elf: &Path) -> Result<Self, QemuError> {
        let file =
            fs::read(elf).map_err(|source| QemuError::File { path: elf.to_path_buf(), source })?;
        let table = Table::parse(&file)
            .map_err(|error| QemuError::Elf(error.to_string()))?
            .ok_or_else(|| QemuError::Elf("no .defmt section".to_owned()))?;
        Ok(Self { table: Arc::new(table), lines: Arc::default(), reader: None })
    }

    /// Reads the output of a start, in a thread, until it ends.
    pub(crate) fn read(&mut self, output: ChildStdout) {
        let (table, lines) = (Arc::clone(&self.table), Arc::clone(&self.lines));
        self.reader = Some(thread::spawn(move || decode(&table, output, &lines)));
    }

    /// Waits for the end of a start whose emulator has ended.
    pub(crate) fn finish(&mut self) {
        if let Some(reader) = mem::take(&mut self.reader) {
            reader.join().expect("the reader of the log does not panic");
        }
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect(POISONED).clone()
    }
}

fn decode(table: &Table, mut output: ChildStdout, lines: &Mutex<Vec<String>>) {
    let mut decoder = table.new_stream_decoder();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        decoder.received(&bytes[..count]);
        loop {
            match decoder.decode() {
                Ok(frame) => {
                    lines.lock().expect(POISONED).push(frame.display(false).to_string());
                }
                Err(DecodeError::UnexpectedEof) => break,
                Err(DecodeError::Malformed) if table.encoding().can_recover() => {}
                Err(DecodeError::Malformed) => {
                    lines.lock().expect(POISONED).push("(not a defmt frame)".to_owned());
                    return;
                }
            }
        }
    }
}
