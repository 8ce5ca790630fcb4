//! How a sweep is drawn in a terminal: progress, a row an arm, the curves of one of them, and what is under way.

use np_record::{compare::Metric, stats, visible};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style, Stylize as _},
    symbols::Marker,
    text::Line,
    widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table, TableState},
};

use super::{Group, View};

/// Draws it; `selected` is the row whose curves are shown.
pub(crate) fn draw(frame: &mut Frame, view: &View, metric: Metric, selected: usize) {
    let under_way = (view.running.len().min(6) + 2) as u16;
    let [head, gauge, middle, low, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(under_way),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(vec![visible(&view.title).bold(), "  ".into(), view.totals.clone().into()]), head);
    let left = match view.left {
        Some(_) if view.is_over => String::new(),
        Some(left) => format!(", about {} left", time(left.as_secs())),
        None => String::new(),
    };
    // The label stands on the bar: a terminal without colours shows it all the same.
    let label = format!("{:.0} % of the epochs{left}", 100.0 * view.share);
    let bar = Gauge::default().ratio(view.share.clamp(0.0, 1.0)).label(label).gauge_style(Style::new().green());
    frame.render_widget(bar, gauge);
    let [rows, curves] = Layout::horizontal([Constraint::Fill(5), Constraint::Fill(3)]).areas(middle);
    table(frame, rows, view, metric, selected);
    if let Some(group) = view.groups.get(selected) {
        chart(frame, curves, group, metric);
    }
    let lines =
        view.running.iter().take(6).map(|(name, kept, of)| Line::from(format!("{}  {kept}/{of}", visible(name))));
    let title = match view.running.len() {
        0 => " nothing runs ".to_owned(),
        n => format!(" {n} under way, with the epochs that are kept "),
    };
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()).block(Block::bordered().title(title)), low);
    frame.render_widget(Line::from(" ↑ ↓ choose a row   m next number   q leave; nothing stops by that ").dim(), foot);
}

fn table(frame: &mut Frame, area: Rect, view: &View, metric: Metric, selected: usize) {
    let row = |group: &Group| {
        let values = group.last(metric);
        let shown = match (stats::mean(&values), stats::sample_std(&values)) {
            (Some(mean), Some(std)) => format!("{} ± {}", metric.text(mean), metric.text(std)),
            (Some(mean), None) => metric.text(mean),
            _ => String::new(),
        };
        let runs = format!("{}/{}", group.done, group.of);
        let other = match (group.running, group.lost) {
            (0, 0) => String::new(),
            (running, 0) => format!("{running} on"),
            (0, lost) => format!("{lost} lost"),
            (running, lost) => format!("{running} on, {lost} lost"),
        };
        Row::new([visible(&group.name).into_owned(), runs, shown, other])
    };
    let widths = [Constraint::Fill(1), Constraint::Length(5), Constraint::Length(13), Constraint::Length(12)];
    let head = Row::new(["arm", "done", "last epoch", ""]).style(Style::new().dim());
    let title = format!(" {} ", metric.title());
    let table = Table::new(view.groups.iter().map(row), widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title(title));
    frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(Some(selected)));
}

fn chart(frame: &mut Frame, area: Rect, group: &Group, metric: Metric) {
    let points = |epochs: &[np_record::Epoch]| -> Vec<(f64, f64)> {
        let at = |epoch: &np_record::Epoch| Some((epoch.epoch as f64, metric.of_epoch(epoch)?));
        epochs.iter().filter_map(at).filter(|(_, value)| value.is_finite()).collect()
    };
    let seeds: Vec<Vec<(f64, f64)>> = group.curves.iter().map(|(_, epochs)| points(epochs)).collect();
    let mean = group.mean(metric);
    let all = || seeds.iter().flatten();
    let (low, high) = all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let block = Block::bordered().title(format!(" {}: a line a seed ", visible(&group.name)));
    if low > high {
        frame.render_widget(Paragraph::new("no epoch is kept yet").dim().block(block), area);
        return;
    }
    let last = all().fold(1.0_f64, |last, (x, _)| last.max(*x));
    let margin = if high > low { 0.05 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
    let bounds = [low - margin, high + margin];
    let line =
        |data, style| Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(data);
    let mut lines: Vec<Dataset> = seeds.iter().map(|data| line(data, Style::new().dark_gray())).collect();
    lines.push(line(&mean, Style::new().green()));
    let x = Axis::default().bounds([1.0, last.max(2.0)]).labels(["1".to_owned(), format!("epoch {last}")]);
    let y = Axis::default().bounds(bounds).labels(bounds.map(|bound| metric.text(bound)));
    frame.render_widget(Chart::new(lines).x_axis(x).y_axis(y).block(block), area);
}

/// `1 h 5 min`
fn time(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn view() -> View {
        let group = |name: &str| Group { name: name.into(), of: 3, done: 2, running: 1, lost: 0, curves: Vec::new() };
        View {
            title: "fig2 (cpu)".into(),
            totals: "6 runs: 4 done, 2 running".into(),
            share: 0.75,
            left: Some(Duration::from_secs(3900)),
            is_over: false,
            groups: vec![group("full · mnist"), group("s\u{1b}gd · mnist")],
            running: vec![("full · mnist · seed 43".into(), 3, 10)],
        }
    }

    fn drawn(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, view, Metric::FinalTestAccuracy, 1)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_says_how_far_it_is_and_what_runs() {
        let screen = drawn(&view(), 100, 24);
        for part in [
            "fig2 (cpu)",
            "4 done, 2 running",
            "75 % of the epochs, about 1 h 5 min left",
            "2/3",
            "1 under way",
            "3/10",
            "no epoch is kept yet",
        ] {
            assert!(screen.contains(part), "{part}\n{screen}");
        }
        assert!(!screen.contains('\u{1b}'), "names cannot steer the terminal");
    }

    #[test]
    fn no_screen_is_too_small_and_none_too_empty() {
        let empty = View { groups: Vec::new(), running: Vec::new(), left: None, is_over: true, share: 1.0, ..view() };
        for (width, height) in [(1, 1), (10, 3), (40, 10), (200, 60)] {
            drawn(&view(), width, height);
            drawn(&empty, width, height);
        }
    }
}
