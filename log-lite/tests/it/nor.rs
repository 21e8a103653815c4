//! NOR flash as it is: bits go from 1 to 0 only, a word is programmed once between erases, and a
//! power cut leaves the interrupted word, or the interrupted erase, with any bits.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read,
    check_write,
};

use crate::Rng;

pub(crate) const PAGE: usize = 512;

#[derive(Debug)]
pub(crate) struct PowerCut;

impl NorFlashError for PowerCut {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Nor<const WORD: usize> {
    pub(crate) bytes: Vec<u8>,
    programmed: Vec<bool>,
    pub(crate) erases: Vec<u32>,
    pub(crate) writes: u32,
    /// Words and erases until the power is cut.
    pub(crate) left: Option<u64>,
    pub(crate) seed: u64,
    /// Writes until one is done and yet says that it failed.
    pub(crate) lies_in: Option<u32>,
}

impl<const WORD: usize> Nor<WORD> {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            bytes: vec![0xFF; pages * PAGE],
            programmed: vec![false; pages * PAGE / WORD],
            erases: vec![0; pages],
            writes: 0,
            left: None,
            seed: 1,
            lies_in: None,
        }
    }

    /// Takes the bytes as they are now for what was programmed.
    pub(crate) fn forget_wear(&mut self) {
        for (word, programmed) in self.bytes.chunks(WORD).zip(&mut self.programmed) {
            *programmed = word.iter().any(|byte| *byte != 0xFF);
        }
    }

    /// Whether the power is cut in this step. Once it is, every step fails.
    fn cut(&mut self) -> Result<bool, PowerCut> {
        match &mut self.left {
            None => Ok(false),
            Some(0) => Err(PowerCut),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
        }
    }
}

impl<const WORD: usize> ErrorType for Nor<WORD> {
    type Error = PowerCut;
}

impl<const WORD: usize> ReadNorFlash for Nor<WORD> {
    const READ_SIZE: usize = WORD;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PowerCut> {
        check_read(self, offset, bytes.len()).expect("a read is aligned and inside");
        bytes.copy_from_slice(&self.bytes[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WORD: usize> NorFlash for Nor<WORD> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PowerCut> {
        check_erase(self, from, to).expect("an erase is aligned and inside");
        let cut = self.cut()?;
        self.erases[from as usize / PAGE] += 1;
        let mut rng = Rng::new(self.seed);
        let done = rng.below(3);
        for byte in &mut self.bytes[from as usize..to as usize] {
            *byte = match (cut, done) {
                (false, _) => 0xFF,
                (true, 0) => *byte,
                (true, 1) => *byte | rng.next() as u8,
                (true, _) => rng.next() as u8,
            };
        }
        // Whatever it reads as, what was not erased whole must be erased before it is programmed.
        self.programmed[from as usize / WORD..to as usize / WORD].fill(cut);
        if cut { Err(PowerCut) } else { Ok(()) }
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        check_write(self, offset, bytes.len()).expect("a write is aligned and inside");
        self.writes += 1;
        for (n, word) in bytes.chunks(WORD).enumerate() {
            let at = offset as usize + n * WORD;
            let cut = self.cut()?;
            let mut rng = Rng::new(self.seed);
            assert!(!self.programmed[at / WORD], "the word at {at} is programmed twice");
            let noise = rng.next();
            for (k, byte) in word.iter().enumerate() {
                let keeps = if cut { (noise >> (k % 8 * 8)) as u8 } else { 0 };
                self.bytes[at + k] &= byte | keeps;
            }
            // A word that a cut left at all ones cannot be told from an erased one.
            let touched = self.bytes[at..at + WORD].iter().any(|byte| *byte != 0xFF);
            self.programmed[at / WORD] = touched || !cut;
            if cut {
                return Err(PowerCut);
            }
        }
        self.lies_in = self.lies_in.map(|writes| writes.wrapping_sub(1));
        if self.lies_in == Some(0) { Err(PowerCut) } else { Ok(()) }
    }
}
