//! What a build takes.

use crate::image::{ImageError, segments};
use object::{Object, ObjectSection, ObjectSymbol, SectionKind, read::elf::ElfFile32};

/// Bytes of flash and RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// In flash: code, constants, initial data.
    pub(crate) text: u64,
    /// In RAM: what has a fixed place.
    pub(crate) statics: u64,
    /// In RAM: what the linker leaves for the stack.
    pub(crate) stack: u64,
}

impl Size {
    /// Measures an ELF file that was linked with cortex-m-rt.
    pub(crate) fn of(file: &[u8]) -> Result<Self, ImageError> {
        let text = segments(file)?.iter().map(|segment| segment.bytes.len() as u64).sum();
        let elf = ElfFile32::<object::Endianness>::parse(file)?;
        let is_ram = |kind| matches!(kind, SectionKind::Data | SectionKind::UninitializedData);
        let statics = elf.sections().filter(|s| is_ram(s.kind())).map(|s| s.size()).sum();
        let symbol = |name| elf.symbol_by_name(name).map_or(0, |symbol| symbol.address());
        // cortex-m-rt: the stack grows down from _stack_start to what is left after the statics.
        let stack = symbol("_stack_start").saturating_sub(symbol("_stack_end"));
        Ok(Self { text, statics, stack })
    }

    /// All of RAM.
    pub(crate) fn ram(&self) -> u64 {
        self.statics + self.stack
    }

    /// A line of the table.
    pub(crate) fn row(&self, name: &str, text_max: u64, ram_max: u64) -> String {
        let of = |max: u64| if max == u64::MAX { String::new() } else { format!(" of {max}") };
        let Self { text, statics, stack } = self;
        format!(
            "{name:<8} text {text:>7}{} B   ram {:>6}{} B (statics {statics}, stack {stack})",
            of(text_max),
            self.ram(),
            of(ram_max),
        )
    }
}
