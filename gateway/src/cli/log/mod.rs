//! `headwater log`: the log itself, of a data directory, also beside its running gateway.

mod budget;
mod carried;
mod deep;
mod export;
mod export_dir;
mod human;
mod import;
mod lines;
mod ls;
mod out;
mod place;
mod progress;
mod record;
mod remote;
mod repair;
mod select;
mod show;
mod survey;
mod verify;
mod walk;

pub(super) use self::carried::{Args as CarriedArgs, import as import_carried};

use clap::Subcommand;

use crate::exit::Failure;

#[derive(Subcommand)]
pub(super) enum LogCommand {
    /// Segments or partitions with offsets, times and bytes; what reaches the device in a day
    Ls(ls::Args),
    /// Records: a table on a terminal, NDJSON when piped
    Show(show::Args),
    /// A range as NDJSON, or whole partitions to a directory
    Export(export::Args),
    /// An export into the log of a stopped gateway. Records keep their stream, partition, key, time
    /// and bytes, and get new offsets; an import that is repeated stores them again
    Import(import::Args),
    /// Read everything and check every CRC; exit 1 on damage
    Verify(verify::Args),
    /// Say what damage costs; with --yes write damaged segments anew, the damaged ones kept aside
    Repair(repair::Args),
}

pub(super) fn log(command: &LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Ls(args) => ls::ls(args),
        LogCommand::Show(args) => show::show(args),
        LogCommand::Export(args) => export::export(args),
        LogCommand::Import(args) => import::import(args),
        LogCommand::Verify(args) => verify::verify(args),
        LogCommand::Repair(args) => repair::repair(args),
    }
}
