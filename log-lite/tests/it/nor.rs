//! NOR flash as it is: bits go from 1 to 0 only, a word is programmed once between erases, and a
//! power cut leaves the interrupted word, or the interrupted erase, with any bits. Some of those
//! are weak: they read as they please, each time anew, until they are erased.

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

/// One thing that flash does: a power cut comes between two, or in the midst of one.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Erase { page: usize },
    Program { at: usize, word: Vec<u8> },
}

#[derive(Clone, Debug)]
pub(crate) struct Nor<const WORD: usize> {
    pub(crate) bytes: Vec<u8>,
    /// Bits that read differently each time.
    weak: Vec<u8>,
    programmed: Vec<bool>,
    pub(crate) erases: Vec<u32>,
    pub(crate) writes: u32,
    pub(crate) reads: u32,
    /// Steps until the power is cut.
    pub(crate) left: Option<u64>,
    /// What a cut leaves, and what weak bits read as, comes from here.
    pub(crate) rng: Rng,
    /// Whether a word counts as programmed of which a cut left no trace: until the next cut, as
    /// two in a row that leave none cannot be told from one.
    pub(crate) is_strict: bool,
    /// Whether a cut also damages the word before the one that it hits.
    pub(crate) disturbs: bool,
    /// Writes until one is done and yet says that it failed.
    pub(crate) lies_in: Option<u32>,
    /// The flash before each step, where it is asked for.
    pub(crate) history: Option<Vec<(Self, Step)>>,
}

impl<const WORD: usize> Nor<WORD> {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            bytes: vec![0xFF; pages * PAGE],
            weak: vec![0; pages * PAGE],
            programmed: vec![false; pages * PAGE / WORD],
            erases: vec![0; pages],
            writes: 0,
            reads: 0,
            left: None,
            rng: Rng::new(1),
            is_strict: false,
            disturbs: false,
            lies_in: None,
            history: None,
        }
    }

    /// Takes the bytes as they are now for what was programmed.
    pub(crate) fn forget_wear(&mut self) {
        for (word, programmed) in self.bytes.chunks(WORD).zip(&mut self.programmed) {
            *programmed = word.iter().any(|byte| *byte != 0xFF);
        }
    }

    /// Does a step, unless the power is off or goes off in it.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), PowerCut> {
        if let Some(mut history) = self.history.take() {
            history.push((self.clone(), step.clone()));
            self.history = Some(history);
        }
        match &mut self.left {
            None => {}
            Some(0) => return Err(PowerCut),
            Some(left) => {
                *left -= 1;
                if *left == 0 {
                    self.cut(step);
                    return Err(PowerCut);
                }
            }
        }
        match step {
            Step::Erase { page } => {
                let page = page * PAGE..(page + 1) * PAGE;
                self.bytes[page.clone()].fill(0xFF);
                self.weak[page.clone()].fill(0);
                self.programmed[page.start / WORD..page.end / WORD].fill(false);
            }
            Step::Program { at, word } => {
                assert!(!self.programmed[at / WORD], "the word at {at} is programmed twice");
                // A word of ones only is programmed by doing nothing.
                self.programmed[at / WORD] = word.iter().any(|byte| *byte != 0xFF);
                self.bytes[*at..at + WORD].iter_mut().zip(word).for_each(|(b, new)| *b &= new);
            }
        }
        Ok(())
    }

    /// The power goes in the midst of a step.
    pub(crate) fn cut(&mut self, step: &Step) {
        match step {
            Step::Erase { page } => {
                let page = page * PAGE..(page + 1) * PAGE;
                let done = self.rng.below(4);
                for at in page.clone() {
                    let noise = self.rng.next() as u8;
                    self.bytes[at] = match done {
                        0 => self.bytes[at],
                        1 => self.bytes[at] | noise,
                        2 => 0xFF,
                        _ => noise,
                    };
                    self.weak[at] = if self.rng.below(8) == 0 { self.rng.next() as u8 } else { 0 };
                }
                // Whatever it reads as, it must be erased before it is programmed.
                self.programmed[page.start / WORD..page.end / WORD].fill(true);
            }
            Step::Program { at, word } => {
                assert!(!self.programmed[at / WORD], "the word at {at} is programmed twice");
                // Anything from nothing at all to the whole word, and a few bits that waver.
                let done = self.rng.below(3);
                for (at, new) in (*at..).zip(word) {
                    let noise = self.rng.next() as u8;
                    self.bytes[at] &= new | [0xFF, noise, 0][done as usize];
                    let wavers = self.rng.next() as u8 & self.rng.next() as u8;
                    self.weak[at] = !self.bytes[at] & wavers;
                }
                let shows = (*at..at + WORD).any(|at| self.bytes[at] | self.weak[at] != 0xFF);
                if !shows {
                    self.weak[*at..at + WORD].fill(0);
                }
                // Behind a word of ones nobody can tell where the writing stopped.
                let is_known = self.is_strict && (*at == 0 || self.bytes[at - 1] != 0xFF);
                self.programmed[at / WORD] = shows || is_known;
                if self.disturbs && *at >= WORD {
                    let noise = self.rng.next() as u8;
                    self.bytes[at - 1] &= noise;
                }
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
        if self.left == Some(0) {
            return Err(PowerCut);
        }
        self.reads += 1;
        for (out, at) in bytes.iter_mut().zip(offset as usize..) {
            *out = match self.weak[at] {
                0 => self.bytes[at],
                weak => self.bytes[at] ^ (weak & self.rng.next() as u8),
            };
        }
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
        for page in from as usize / PAGE..to as usize / PAGE {
            self.erases[page] += 1;
            self.step(&Step::Erase { page })?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PowerCut> {
        check_write(self, offset, bytes.len()).expect("a write is aligned and inside");
        self.writes += 1;
        for (n, word) in bytes.chunks(WORD).enumerate() {
            self.step(&Step::Program { at: offset as usize + n * WORD, word: word.to_vec() })?;
        }
        self.lies_in = self.lies_in.map(|writes| writes.wrapping_sub(1));
        if self.lies_in == Some(0) { Err(PowerCut) } else { Ok(()) }
    }
}
