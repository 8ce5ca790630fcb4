//! The `np` command; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    np_runner::cli::main()
}
