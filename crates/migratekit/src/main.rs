//! `migratekit`: every role of the platform and the operator's command line in one binary.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

fn main() -> ExitCode {
    // A provider that is installed already (a second call in one process) is as good as ours.
    let _already_installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::failure::Failure::from(error).report(cli.output),
    };
    let output = cli.output;
    match runtime.block_on(cli::run(cli)) {
        Ok(code) => code,
        Err(failure) => failure.report(output),
    }
}
