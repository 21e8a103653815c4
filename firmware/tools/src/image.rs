//! What an ELF file puts into flash.

use object::{
    Endianness, elf,
    read::elf::{ElfFile32, ProgramHeader},
};

/// A run of bytes in flash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its address in flash.
    pub(crate) address: u32,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A file that is no firmware.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("not a 32-bit ELF file: {0}")]
    NotElf(#[from] object::Error),
    #[error("the ELF file is cut short: build it again")]
    Truncated,
    #[error("the ELF file loads nothing: link it with -Tlink.x")]
    Empty,
}

/// All that is loaded, by address in flash (initial data stands there until the start copies it).
pub(crate) fn segments(file: &[u8]) -> Result<Vec<Segment>, ImageError> {
    let elf_file = ElfFile32::<Endianness>::parse(file)?;
    let endian = elf_file.endian();
    let mut segments = Vec::new();
    for header in elf_file.elf_program_headers() {
        if header.p_type(endian) != elf::PT_LOAD || header.p_filesz(endian) == 0 {
            continue;
        }
        let bytes = header.data(endian, file).map_err(|()| ImageError::Truncated)?.to_vec();
        segments.push(Segment { address: header.p_paddr(endian), bytes });
    }
    segments.sort_by_key(|segment| segment.address);
    if segments.is_empty() { Err(ImageError::Empty) } else { Ok(segments) }
}
