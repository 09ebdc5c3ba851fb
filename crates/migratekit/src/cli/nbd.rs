//! `migratekit nbd`: the product's own NBD server and client as stand-alone tools.

mod copy;
mod endpoint;
mod info;
mod serve;

use std::io::ErrorKind;
use std::process::ExitCode;

use block::BlockError;
use clap::Subcommand;
use model::FailureKind;
use nbd::NbdError;

use super::failure::Failure;
use super::hub::Context;

/// What can be done.
#[derive(Subcommand)]
pub enum NbdCommand {
    /// Serve a raw file or block device until interrupted; says `serving URI` first.
    Serve(serve::ServeArgs),
    /// Show what an export offers.
    Info(info::InfoArgs),
    /// Copy between files and exports, holes and zeroes kept as such.
    Copy(copy::CopyArgs),
}

/// Does it.
///
/// # Errors
/// What the server or the client met.
pub async fn run(context: &Context, command: NbdCommand) -> Result<ExitCode, Failure> {
    match command {
        NbdCommand::Serve(args) => serve::run(context, &args).await,
        NbdCommand::Info(args) => info::run(context, &args).await,
        NbdCommand::Copy(args) => copy::run(context, &args).await,
    }
}

/// An error of NBD with its remedy.
fn nbd_failure(error: &NbdError) -> Failure {
    Failure::of(error.kind(), error, error.remedy())
}

/// An error of a device with its remedy.
fn device_failure(error: &BlockError) -> Failure {
    let (kind, remedy) = match error {
        BlockError::Open { source, .. } if source.kind() == ErrorKind::IsADirectory => (FailureKind::Invalid, None),
        other => (other.kind(), other.remedy()),
    };
    let failure = Failure::of(kind, error, remedy);
    if kind == FailureKind::Invalid { failure.advise("name a raw file or a block device") } else { failure }
}
