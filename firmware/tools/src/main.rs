//! Looks into a board's ELF file: its size against a budget, and its image as UF2.

mod image;
mod size;
mod uf2;

use clap::{Parser, Subcommand};
use std::{fs, path::PathBuf, process::ExitCode};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what a build takes of flash and RAM; exit 1 if that is over a limit
    Size {
        /// The board's name, for the table
        #[arg(long)]
        name: String,
        /// The ELF file
        elf: PathBuf,
        /// Most bytes of flash
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        text_max: u64,
        /// Most bytes of RAM: data, bss and the stack that the linker leaves
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        ram_max: u64,
    },
    /// Convert to UF2, for a board's USB boot loader
    Uf2 {
        /// The ELF file
        elf: PathBuf,
        /// The file to write
        out: PathBuf,
        /// The family id that the boot loader wants; RP2350 by default
        #[arg(long, default_value = "0xe48bff59", value_parser = family)]
        family: u32,
    },
}

fn family(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").ok_or("give it as 0x and eight hex digits")?;
    u32::from_str_radix(digits, 16).map_err(|error| error.to_string())
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments.command) {
        Ok((text, code)) => {
            println!("{text}");
            code
        }
        Err(error) => {
            eprintln!("firmware-tools: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command) -> Result<(String, ExitCode), Box<dyn std::error::Error>> {
    match command {
        Command::Size { name, elf, text_max, ram_max } => {
            let size = size::Size::of(&fs::read(elf)?)?;
            let fits = size.text <= *text_max && size.ram() <= *ram_max;
            Ok((size.row(name, *text_max, *ram_max), ExitCode::from(u8::from(!fits))))
        }
        Command::Uf2 { elf, out, family } => {
            let segments = image::segments(&fs::read(elf)?)?;
            let blocks = uf2::blocks(&segments, *family);
            fs::write(out, blocks.concat())?;
            let text = format!("{}: {} blocks of 256 B", out.display(), blocks.len());
            Ok((text, ExitCode::SUCCESS))
        }
    }
}
