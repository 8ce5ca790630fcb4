//! `np conform`: golden trajectories, replayed.

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::Args as ClapArgs;
use np_core::Backend;

use super::{print, short};
use crate::{
    error::{Error, Fault, Place, Result},
    golden::replay,
    say::say,
};

/// Replay golden trajectories through the optimizers, and compare every number
///
/// A file is safetensors: initial parameters, gradients and parameters of every step, final state, and in its metadata the configuration
/// and the diagnostics. A line a file says how close the worst number came to its tolerance, |Δ| ≤ 1e-10 + 1e-9·|x| in f64 and
/// 2e-6 + 2e-5·|x| in f32, and where it is. Exit code 1 if any number lies outside.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Golden files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Compute with tensor operations, as on CUDA and Metal, instead of in place
    #[arg(long)]
    tensors: bool,
}

pub(super) fn conform(args: &Args) -> Result<ExitCode> {
    crate::threads::start(crate::threads::by_default())?;
    let backend = if args.tensors { Backend::Tensors } else { Backend::Auto };
    let mut failed = 0;
    for path in &args.files {
        let bytes = np_record::read_regular(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Error::from(Fault::new(Place::File(path.clone(), None), "there is no such file"))
            }
            _ => Error::io(path)(error),
        })?;
        let bytes = bytes.ok_or_else(|| Fault::new(Place::File(path.clone(), None), "expected a regular file"))?;
        let report =
            replay(&bytes, backend).map_err(|error| Fault::new(Place::File(path.clone(), None), error.to_string()))?;
        let mut line = if report.passed() { "ok    ".to_owned() } else { "FAILED".to_owned() };
        let _ = write!(
            line,
            "  {}  {}, {} steps, {} numbers",
            short(path),
            report.optimizer,
            report.steps,
            report.compared
        );
        if let Some(worst) = &report.worst {
            let _ = write!(line, "; {worst}");
        }
        if let Some((names, worst)) = &report.undetermined {
            let names = names.join(", ");
            let _ =
                write!(line, "\n        not compared, since the reference leaves them to rounding: {names}; {worst}");
        }
        line.push('\n');
        print(&line)?;
        failed += usize::from(!report.passed());
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    say!("{failed} of {} files lie outside the tolerance", args.files.len());
    Ok(ExitCode::from(1))
}
