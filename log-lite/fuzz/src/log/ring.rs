//! The ring on flash of any content, and through any life.

use std::collections::BTreeMap;

use log_lite::{ChunkHeader, ChunkKind, Ring, RingError, RingRecord, crc32c};

use super::input::Input;
use super::script::Script;
use crate::Rng;
use crate::nor::{Nor, PAGE};

const PAGES: usize = 4;
const STEPS_MAX: usize = 300;
/// Bytes of the shortest record.
const RECORD_MIN: u64 = 11;

type Found = Vec<(RingRecord, Vec<u8>)>;

fn mount<const W: usize>(flash: Nor<W>) -> Ring<Nor<W>> {
    Ring::mount(flash, 0..(PAGES * PAGE) as u32).expect("flash without faults")
}

/// All records from the start on: in order, and no more than fit. Only forged ones lie behind the
/// end.
fn read_all<const W: usize>(ring: &mut Ring<Nor<W>>, forged: bool) -> Found {
    let (mut from, mut found) = (ring.start(), Vec::new());
    let mut buf = [0; PAGE];
    while let Some(record) = ring.read(from, &mut buf).expect("a page holds any record") {
        assert!(record.offset >= from && (forged || record.offset < ring.end()));
        let block = buf[..record.len].to_vec();
        assert_eq!(crc32c(&block[4..]).to_le_bytes(), block[..4]);
        found.push((record, block));
        assert!(found.len() <= PAGES * PAGE / 8);
        let Some(next) = record.offset.checked_add(1) else { break };
        from = next;
    }
    found
}

/// Any flash is mounted and read, and takes records that are there afterwards.
pub fn ring_image(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 3 {
        0 => image::<1>(&mut input),
        1 => image::<4>(&mut input),
        _ => image::<32>(&mut input),
    }
}

fn image<const W: usize>(input: &mut Input) {
    let mut flash = Nor::<W>::new(PAGES);
    let (mut base_offset, mut epoch) = (input.number(), input.number() as u32);
    // Whether no page lays claim to an offset of another, as no ring and no damage makes one do.
    let mut orderly = true;
    for page in 0..PAGES {
        let base_time_ms = input.signed();
        let chunk = ChunkHeader { kind: ChunkKind::Page, base_offset, base_time_ms, epoch };
        let mut script = Script::new(chunk, W);
        orderly &= !script.head(input);
        for _ in 0..input.byte() % 32 {
            script.step(input);
        }
        let len = script.bytes.len().min(PAGE);
        flash.bytes[page * PAGE..][..len].copy_from_slice(&script.bytes[..len]);
        orderly &= script.reaches <= script.next && epoch < u32::MAX - 100;
        (base_offset, epoch) = (script.next, epoch.wrapping_add(1));
    }
    flash.forget_wear();
    let mut ring = match Ring::mount(flash, 0..(PAGES * PAGE) as u32) {
        Ok(ring) => ring,
        Err(RingError::Version(_)) => return,
        Err(error) => panic!("{error}"),
    };
    let (start, end) = (ring.start(), ring.end());
    let before = read_all(&mut ring, !orderly);
    // Forged pages are read and written behind. What follows at their offsets is nobody's promise.
    if !orderly || end > u64::MAX - 100 {
        for n in 0..40u64 {
            let _ = ring.append(n as u16, n as i64, &[n as u8; 30]);
            let _ = ring.trim(end.wrapping_add(n));
        }
        mount(ring.release());
        return;
    }
    assert!(start <= end || !orderly);
    for n in 0..40u64 {
        let appended = ring.append(n as u16, n as i64, &[n as u8; 30]);
        assert_eq!(appended.ok(), Some(end + n));
        if n == 20 {
            let _ = ring.trim(end.saturating_add(10));
        }
        if n == 1 {
            let kept = read_all(&mut ring, false);
            let same = before.iter().filter(|(record, _)| record.offset >= ring.start());
            assert!(same.eq(kept.iter().filter(|(record, _)| record.offset < end)));
        }
    }
    let after = read_all(&mut ring, false);
    assert_eq!(after.last().map(|(record, _)| record.offset), Some(end + 39));
    let mut again = mount(ring.release());
    assert_eq!(again.end(), end + 40);
    assert!(read_all(&mut again, false).ends_with(&after));
}

/// A life of appends, trims, power cuts and mounts, against what was acknowledged.
pub fn ring_ops(input: &[u8]) {
    let mut input = Input::new(input);
    match input.byte() % 4 {
        0 => Life::<1>::run(&mut input),
        1 => Life::<4>::run(&mut input),
        2 => Life::<8>::run(&mut input),
        _ => Life::<32>::run(&mut input),
    }
}

struct Life<const W: usize> {
    ring: Ring<Nor<W>>,
    /// What was acknowledged, by offset.
    bodies: Vec<Vec<u8>>,
    /// What was being appended when the power went: words that waver may show it now and not then.
    unsure: BTreeMap<u64, Vec<Vec<u8>>>,
    trimmed: u64,
    /// Erases before the present step, and whether one may have been cut since the last append:
    /// then a part of the oldest page may be readable.
    erases: u32,
    erase_cut: bool,
    /// The ring's start before the present step.
    start: u64,
}

impl<const W: usize> Life<W> {
    fn run(input: &mut Input) {
        let mut life = Self {
            ring: mount(Nor::<W>::new(PAGES)),
            bodies: Vec::new(),
            unsure: BTreeMap::new(),
            trimmed: 0,
            erases: 0,
            erase_cut: false,
            start: 0,
        };
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            if !life.step(input) {
                life.mount_again();
            }
        }
        life.check();
    }

    /// Whether the power stayed on.
    fn step(&mut self, input: &mut Input) -> bool {
        self.start = self.ring.start();
        self.erases = self.ring.flash().erases.iter().sum();
        match input.byte() {
            op @ 0..=159 => self.append(op, input),
            160..=207 => {
                let before = self.start + input.below(40);
                self.trimmed = self.trimmed.max(before.min(self.bodies.len() as u64));
                self.ring.trim(before).is_ok()
            }
            208..=223 => {
                self.check();
                true
            }
            224..=239 => false,
            _ => {
                // The power goes at a word or an erase to come.
                let (left, seed) = (1 + input.below(200), input.number());
                self.remount(|flash| (flash.left, flash.rng) = (Some(left), Rng::new(seed)));
                true
            }
        }
    }

    fn append(&mut self, op: u8, input: &mut Input) -> bool {
        let offset = self.bodies.len() as u64;
        let max = Ring::<Nor<W>>::max_body();
        let len = input.number() as usize % (max + 2);
        let mut body = vec![op; len];
        body[..len.min(8)].copy_from_slice(&offset.to_le_bytes()[..len.min(8)]);
        match self.ring.append((len % 5) as u16, len as i64 * 100, &body) {
            Ok(given) => {
                // A record that wavered when it was looked for may be there after all.
                assert!((offset..given).all(|n| n == offset && self.unsure.contains_key(&n)));
                assert!(given >= offset);
                self.bodies.resize(given as usize, Vec::new());
                self.bodies.push(body);
                self.erase_cut = false;
                true
            }
            Err(RingError::Flash(_)) => {
                let wavers = self.unsure.contains_key(&offset);
                self.unsure.entry(offset).or_default().push(body.clone());
                if wavers {
                    self.unsure.entry(offset + 1).or_default().push(body);
                }
                false
            }
            Err(RingError::TooLarge { .. }) => {
                assert!(len > max);
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn remount(&mut self, change: impl FnOnce(&mut Nor<W>)) {
        let ring = std::mem::replace(&mut self.ring, mount(Nor::new(PAGES)));
        let mut flash = ring.release();
        flash.left = None;
        change(&mut flash);
        self.ring = mount(flash);
        // What was trimmed since the last mark is not known any more; more than that comes again
        // where the newest page had no room for a mark.
        assert!(self.ring.start() <= self.trimmed.max(self.start) + PAGE as u64 / RECORD_MIN);
        self.trimmed = self.trimmed.min(self.ring.start());
    }

    /// Mounts after a cut; what was in flight may be there, whole, or not there any more.
    fn mount_again(&mut self) {
        let start = self.start;
        self.erase_cut |= self.ring.flash().erases.iter().sum::<u32>() > self.erases;
        self.remount(|_| ());
        let (end, known) = (self.ring.end(), self.bodies.len() as u64);
        for offset in end.min(known)..end.max(known) {
            assert!(self.unsure.contains_key(&offset), "{offset} of {end}");
        }
        self.bodies.resize(end as usize, Vec::new());
        // At most one page was given up in the interrupted step.
        assert!(self.ring.start() <= start + PAGE as u64 / RECORD_MIN);
        self.check();
    }

    fn check(&mut self) {
        let (start, end) = (self.ring.start(), self.ring.end());
        let found = read_all(&mut self.ring, false);
        let given_up = if self.erase_cut { PAGE as u64 / RECORD_MIN } else { 0 };
        let missing = |offset: &u64| !found.iter().any(|(record, _)| record.offset == *offset);
        for offset in (start..end).filter(missing) {
            let excused = self.unsure.contains_key(&offset) || offset < start + given_up;
            assert!(excused, "{offset} of {start}..{end}");
        }
        for (record, block) in &found {
            let tried = self.unsure.get(&record.offset).map_or(&[][..], |tried| tried);
            let stored = self.bodies.get(record.offset as usize);
            assert!(tried.iter().chain(stored).any(|body| block[4..] == body[..]));
            let len = block.len() - 4;
            assert_eq!(
                (usize::from(record.partition), record.time_ms),
                (len % 5, len as i64 * 100)
            );
        }
    }
}
