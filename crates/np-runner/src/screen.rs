//! How a sweep looks on standard error while it runs: bars on a terminal, one plain line a run anywhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io::IsTerminal as _,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use np_record::{Epoch, Outcome, PlannedRun, select::Split, visible_lines};

use crate::{event::Event, say::say, worker::label};

/// The progress of a sweep.
#[derive(Debug)]
pub struct Screen {
    bars: Option<(MultiProgress, ProgressBar)>,
    runs: BTreeMap<usize, Run>,
    total: usize,
    ended: usize,
    started: Instant,
    /// When the clock was drawn.
    ticked: Instant,
    /// What is the matter with the machine, and not with one run: said once.
    said: BTreeSet<String>,
    /// The split whose scores are shown.
    split: Split,
}

/// How often the clock is drawn.
const TICK: Duration = Duration::from_millis(500);

/// One run in progress.
#[derive(Debug)]
struct Run {
    label: String,
    bar: Option<ProgressBar>,
    last: Option<Epoch>,
}

impl Screen {
    /// A screen for `total` runs.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let bars = can_draw().then(|| {
            let all = MultiProgress::new();
            let bar = all.add(ProgressBar::new(total as u64));
            bar.set_style(style("{bar:24} {pos}/{len} runs · {elapsed} {msg}"));
            (all, bar)
        });
        let (started, runs, said) = (Instant::now(), BTreeMap::new(), BTreeSet::new());
        Self { bars, runs, total, ended: 0, started, ticked: started, said, split: Split::Test }
    }

    /// With the scores on this split instead of those on the test split.
    #[must_use]
    pub fn by(self, split: Split) -> Self {
        Self { split, ..self }
    }

    /// Time has passed: called often, it draws the clock anew now and then. (A thread that does so by itself could not be started where
    /// there are too many.)
    pub(crate) fn tick(&mut self) {
        if let Some((_, total)) = &self.bars
            && self.ticked.elapsed() >= TICK
        {
            total.tick();
            self.ticked = Instant::now();
        }
    }

    /// A worker has started.
    pub(crate) fn begins(&mut self, index: usize, run: &PlannedRun) {
        let bar = self.bars.as_ref().map(|(all, total)| {
            let epochs = run.config.pointer("/train/epochs").and_then(serde_json::Value::as_u64);
            let bar = all.insert_before(total, ProgressBar::new(epochs.unwrap_or(1)));
            bar.set_style(style("{bar:24} {pos}/{len} {prefix}  {msg}"));
            bar.set_prefix(label(run));
            bar.tick();
            bar
        });
        self.runs.insert(index, Run { label: label(run), bar, last: None });
    }

    /// A worker has said something.
    pub(crate) fn event(&mut self, index: usize, event: &Event) {
        let Some(run) = self.runs.get_mut(&index) else { return };
        if let Event::Epoch { metrics, seconds } = event {
            if let Some(bar) = &run.bar {
                let left = bar.length().unwrap_or(0).saturating_sub(metrics.epoch as u64);
                bar.set_position(metrics.epoch as u64);
                let numbers = numbers(metrics, self.split);
                bar.set_message(format!("{numbers} · {} left", human(seconds * left as f64)));
            }
            run.last = Some(metrics.clone());
        }
        let line = match event {
            Event::Resumed { epoch } => format!("{}: goes on after epoch {epoch}", run.label),
            Event::Notice { text } => format!("{}: {text}", run.label),
            Event::Remark { text } if self.said.insert(text.clone()) => format!("note: {text}"),
            Event::Busy => format!("{}: another `np run` trains it; its record is waited for", run.label),
            _ => return,
        };
        self.print(line);
    }

    /// A worker has crashed, and is started once more.
    pub(crate) fn crashes(&mut self, index: usize, why: &str) {
        if let Some(run) = self.runs.get(&index) {
            self.print(format!("{}: {why}; it is started once more", run.label));
        }
        self.leaves(index);
    }

    /// A worker has ended, and its run has not.
    pub(crate) fn leaves(&mut self, index: usize) {
        let bar = self.runs.remove(&index).and_then(|run| run.bar);
        if let (Some((all, _)), Some(bar)) = (&self.bars, bar) {
            all.remove(&bar);
        }
    }

    /// Another process has trained a run.
    pub(crate) fn elsewhere(&mut self, run: &PlannedRun, outcome: &Outcome) {
        self.ended += 1;
        let how = match outcome {
            Outcome::Finished => "trained",
            Outcome::Diverged { .. } => "diverged",
            Outcome::Failed { .. } => "failed",
        };
        self.print(format!("[{}/{}] {}: {how} by another `np run`", self.ended, self.total, label(run)));
        if let Some((_, total)) = &self.bars {
            total.inc(1);
        }
    }

    fn print(&self, line: String) {
        match &self.bars {
            Some((all, _)) => drop(all.println(visible_lines(&line))),
            None => say!("{line}"),
        }
    }

    /// A worker has ended.
    pub(crate) fn ends(&mut self, index: usize, run: &PlannedRun, outcome: &Outcome, took: Duration) {
        self.ended += 1;
        let seen = self.runs.remove(&index);
        let last = seen.as_ref().and_then(|seen| seen.last.as_ref());
        let how = match (outcome, last) {
            (Outcome::Finished, Some(last)) => numbers(last, self.split),
            (Outcome::Finished, None) => "finished".to_owned(),
            (Outcome::Diverged { epoch, step }, _) => format!("diverged at step {step}, in epoch {epoch}"),
            (Outcome::Failed { reason }, _) => format!("failed: {reason}"),
        };
        let line = format!("[{}/{}] {}: {how} · {}", self.ended, self.total, label(run), human(took.as_secs_f64()));
        let left = human(self.left());
        match &self.bars {
            Some((all, total)) => {
                if let Some(bar) = seen.and_then(|seen| seen.bar) {
                    all.remove(&bar);
                }
                let _ = all.println(visible_lines(&line));
                total.inc(1);
                total.set_message(format!("· {left} left"));
            }
            None if self.ended < self.total => say!("{line} · {left} left in all"),
            None => say!("{line}"),
        }
    }

    /// Everything has ended.
    pub(crate) fn close(&mut self) {
        if let Some((all, total)) = self.bars.take() {
            total.finish_and_clear();
            let _ = all.clear();
        }
    }

    /// Estimated seconds to the end, from the pace so far.
    fn left(&self) -> f64 {
        // Runs that are under way are half done on average.
        let done = self.ended as f64 + self.runs.len() as f64 / 2.0;
        (self.total as f64 - done) * self.started.elapsed().as_secs_f64() / done.max(0.5)
    }
}

/// Whether standard error is a terminal on which bars can be drawn over.
pub(crate) fn can_draw() -> bool {
    std::io::stderr().is_terminal() && draws(std::env::var_os("TERM").as_deref())
}

/// Whether a terminal of this kind moves its cursor.
fn draws(kind: Option<&OsStr>) -> bool {
    kind.is_none_or(|kind| kind != "dumb")
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─")
}

fn numbers(epoch: &Epoch, split: Split) -> String {
    let (name, loss, accuracy) = match split {
        Split::Test => ("test", epoch.test_loss, epoch.test_accuracy),
        Split::Validation => {
            let score = epoch.validation;
            ("validation", score.map(|score| score.loss), score.and_then(|score| score.accuracy))
        }
    };
    let Some(loss) = loss else { return format!("training loss {:.4}, not evaluated", epoch.train_loss) };
    let accuracy = accuracy.map(|accuracy| format!("{name} accuracy {:.2} %", accuracy * 100.0));
    let loss = format!("{name} loss {loss:.4}");
    let prefix = format!("{name}_");
    let own = epoch.metrics.iter().filter(|(name, _)| name.starts_with(&prefix));
    let own = own.map(|(name, value)| format!("{} {value:.4}", name.replace('_', " ")));
    accuracy.into_iter().chain([loss]).chain(own).collect::<Vec<_>>().join(", ")
}

/// A time as people say it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
#[must_use]
pub(crate) fn human(seconds: f64) -> String {
    if seconds < 10.0 {
        return format!("{:.1} s", seconds.max(0.0));
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, text) in [
            (-1.0, "0.0 s"),
            (0.44, "0.4 s"),
            (11.6, "12 s"),
            (59.7, "1 min 0 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn an_epoch_is_said_by_what_its_task_measures() {
        let by = |split, text: &str| {
            let rest = r#""epoch":1,"steps":1,"lr":0.1,"train_loss":1.0,"test_loss":0.5,"diagnostics":{}"#;
            numbers(&serde_json::from_str(&format!("{{{text}{rest}}}")).unwrap(), split)
        };
        let epoch = |text: &str| by(Split::Test, text);
        let images = epoch(r#""train_accuracy":0.5,"test_accuracy":0.75,"#);
        assert_eq!(images, "test accuracy 75.00 %, test loss 0.5000");
        let own = epoch(r#""metrics":{"test_bits_per_character":2.5,"train_bits_per_character":2.0},"#);
        assert_eq!(own, "test loss 0.5000, test bits per character 2.5000");
        // What is chosen by validation does not look at the test split.
        let both = r#""train_accuracy":0.5,"test_accuracy":0.75,"validation":{"loss":0.25,"accuracy":0.875},"#;
        assert_eq!(by(Split::Validation, both), "validation accuracy 87.50 %, validation loss 0.2500");
        assert_eq!(by(Split::Validation, r#""test_accuracy":0.75,"#), "training loss 1.0000, not evaluated");
    }

    #[test]
    fn a_terminal_that_says_it_is_dumb_gets_lines() {
        assert!(draws(Some(OsStr::new("xterm"))) && draws(None) && draws(Some(OsStr::new(""))));
        assert!(!draws(Some(OsStr::new("dumb"))));
    }
}
