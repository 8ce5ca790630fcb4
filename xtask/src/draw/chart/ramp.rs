//! The colour bar of a heat map, at the right of its panel.

use anyhow::Result;

use super::Stage;
use crate::draw::canvas::{Align, Canvas, Stroke, Type, centred};
use crate::draw::font::{self, Face};
use crate::draw::panel::Frame;
use crate::draw::theme::{HAIR, INK, SMALL, shade};

/// Distance from the axes, and width, in pixels.
const GAP: f64 = 70.0;
const WIDTH: f64 = 64.0;
const TICK: f64 = 14.0;
/// Steps of colour.
const STEPS: usize = 96;

/// Which shade stands for which value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ramp {
    /// Shades from 0 to 1, and what stands beside them.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Ramp {
    /// Room that it takes beside the axes.
    pub(super) fn room(&self) -> f64 {
        let label = self.ticks.iter().map(|(_, label)| font::width(label, SMALL, Face::Regular)).fold(0.0, f64::max);
        GAP + WIDTH + TICK + 14.0 + label
    }

    /// Draws one stage.
    pub(super) fn draw(&self, canvas: &Canvas, frame: &Frame, stage: Stage) -> Result<()> {
        if stage != Stage::Below {
            return Ok(());
        }
        let (left, right) = (frame.right + GAP, frame.right + GAP + WIDTH);
        let height = |share: f64| frame.bottom - share * (frame.bottom - frame.top);
        for step in 0..STEPS {
            let [low, high] = [step, step + 1].map(|edge| edge as f64 / STEPS as f64);
            // To the top each time: no hair of the page shows between two steps.
            let corners = [(left, height(low)), (right, height(low)), (right, height(1.0)), (left, height(1.0))];
            canvas.polygon(&corners, shade((low + high) / 2.0), 1.0)?;
        }
        for (share, label) in &self.ticks {
            let y = height(*share);
            canvas.line(&[(right, y), (right + TICK, y)], Stroke::new(INK, HAIR))?;
            let set = Type::new(SMALL).align(Align::Start);
            canvas.text((right + TICK + 14.0, centred(y, SMALL)), label, set)?;
        }
        Ok(())
    }
}
