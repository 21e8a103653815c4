//! Runs the flash ring on a Cortex-M0 and prints its state and how deep each call's stack went.
#![no_std]
#![no_main]

mod flash;
mod stack;
mod user;

use core::panic::PanicInfo;
use flash::Flash;
use semihosting::io::{Write, stdout};
use semihosting::process;
use stack::Paint;
use user::User;

/// Several trips round the flash, a mount every few records.
const MOUNTS: usize = 50;
const RECORDS: usize = 7;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    process::exit(1)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    // The entry function runs once, so cortex-m-rt lends it its statics.
    static mut USER: User = user::NEW;
    static mut BLOCK: [u8; user::BLOCK_BYTES] = [0; user::BLOCK_BYTES];
    process::exit(if run(USER, BLOCK).is_some() { 0 } else { 1 })
}

#[inline(never)]
fn run(user: &mut User, block: &mut [u8; user::BLOCK_BYTES]) -> Option<()> {
    let (mut mount, mut append, mut read, mut trim) = (0, 0, 0, 0);
    for _ in 0..MOUNTS {
        let paint = Paint::new();
        let mounted = user::mount(user)?;
        mount = paint.used().max(mount);
        for _ in 0..RECORDS {
            let paint = Paint::new();
            let mut right = user::append(mounted);
            append = paint.used().max(append);
            let paint = Paint::new();
            right &= user::read(mounted, block);
            read = paint.used().max(read);
            let paint = Paint::new();
            right &= user::trim(mounted);
            trim = paint.used().max(trim);
            (right && user::is_right(block)).then_some(())?;
        }
    }
    print("state", size_of::<User>() - size_of::<Flash>())?;
    print("mount", mount)?;
    print("append", append)?;
    print("read", read)?;
    print("trim", trim)
}

/// `name` and a number, without `core::fmt`, which would hide what the ring took of it.
fn print(name: &str, mut number: usize) -> Option<()> {
    let mut digits = [b' '; 8];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let mut out = stdout().ok()?;
    for part in [name.as_bytes(), b" ", &digits, b"\n"] {
        out.write_all(part).ok()?;
    }
    Some(())
}
