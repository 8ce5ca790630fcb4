//! `np watch`: a sweep as it goes on, in the terminal.

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;
use np_record::Store;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use super::{OverrideArgs, PlaceArgs, print, source::say_unread};
use crate::{
    asked,
    error::{Error, Result},
    launch::slurm::Queue,
    spec::default_store,
    watch::{Seen, View, draw, view},
};

/// Watch a sweep in the terminal: progress, time left, a row an arm, curves
///
/// Looks at the store's records, locks and snapshots, so that it can be started beside a sweep, at any time, by anybody who sees the folder. Leaving it stops nothing.
/// Of a run under way it shows the epochs that its last snapshot has. Where there is no terminal, one picture is printed.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np watch experiments/fig2-sanity.yaml
  np watch experiments/fig2-sanity.yaml --scale cpu --once > picture.txt")]
pub(super) struct Args {
    /// The experiment, a YAML file
    file: PathBuf,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one picture, 100 columns wide, and end
    #[arg(long)]
    once: bool,
}

/// How often the store is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Size of a picture that is printed.
const PICTURE: [u16; 2] = [100, 30];

pub(super) fn watch(args: &Args) -> Result<ExitCode> {
    let request = args.overrides.request(&args.file);
    let folder = args.place.store.clone().unwrap_or_else(|| default_store(&args.file, request.scale()));
    let store = Store::open(folder)?;
    let planned = asked(&request, args.place.data_dir.as_deref(), &store, true)?;
    say_unread(&planned, &args.place);
    let mut seen = Seen::default();
    let mut look = || -> Result<View> {
        let queue = if Queue::concerns(&store) { Queue::of(&store).unwrap_or(None) } else { None };
        view(&planned.plan, &store, queue.as_ref(), &mut seen)
    };
    let first = look()?;
    if args.once || !std::io::stdout().is_terminal() {
        let [width, height] = PICTURE;
        // A screen in memory: nothing about it can fail.
        let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
        let Ok(_) = terminal.draw(|frame| draw(frame, &first, first.metrics()[0], 0));
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        print(&((0..height).map(line).collect::<Vec<_>>().join("\n") + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::init();
    let done = watching(&mut terminal, first, look);
    ratatui::restore();
    done
}

fn watching(
    terminal: &mut ratatui::DefaultTerminal,
    mut view: View,
    mut look: impl FnMut() -> Result<View>,
) -> Result<ExitCode> {
    let lost = |source| Error::io("the terminal")(source);
    let (mut metric, mut selected, mut looked, mut every) = (0, 0_usize, Instant::now(), EVERY);
    loop {
        selected = selected.min(view.groups.len().saturating_sub(1));
        // They change once there are epochs.
        let metrics = view.metrics();
        let shown = metrics[metric % metrics.len()];
        terminal.draw(|frame| draw(frame, &view, shown, selected)).map_err(lost)?;
        if event::poll(every.saturating_sub(looked.elapsed())).map_err(lost)?
            && let Event::Key(key) = event::read().map_err(lost)?
            && key.kind == KeyEventKind::Press
        {
            match key.code {
                KeyCode::Char('q') | KeyCode::Esc => return Ok(ExitCode::SUCCESS),
                KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(ExitCode::SUCCESS),
                KeyCode::Char('m') => metric = (metric + 1) % metrics.len(),
                KeyCode::Down | KeyCode::Char('j') => selected += 1,
                KeyCode::Up | KeyCode::Char('k') => selected = selected.saturating_sub(1),
                _ => {}
            }
        }
        if looked.elapsed() >= every {
            let began = Instant::now();
            view = look()?;
            looked = Instant::now();
            // A sweep of thousands of runs takes a while to read: looking on takes up a tenth of a core at most.
            every = EVERY.max(10 * began.elapsed());
        }
    }
}
