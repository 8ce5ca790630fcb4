//! The style of all figures: the colours of Okabe and Ito, sizes in pixels at 300 dpi, and a style for each arm.
//!
//! A panel is 6.2 inches wide. Two panels side by side are printed 7.2 inches wide, and a test checks that no text is then smaller than 7 points.

#[macro_use]
#[path = "../../../crates/np-core/src/optim/rows.rs"]
mod rows;

use anyhow::{Result, bail};
use plotters::style::RGBColor;

/// Pixels per inch of a PNG. All lengths here are in pixels.
pub(crate) const DPI: f64 = 300.0;
/// Width of a panel: 6.2 inches.
pub(crate) const PANEL_WIDTH: f64 = 6.2 * DPI;

/// Text and axes.
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
/// Secondary text and marks that belong to no arm.
pub(crate) const GREY: RGBColor = RGBColor(102, 102, 102);
/// Marks that stand beside others for comparison.
pub(crate) const LIGHT: RGBColor = RGBColor(150, 150, 150);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(228, 228, 228);
/// Contours below a path.
pub(crate) const CONTOUR: RGBColor = RGBColor(205, 205, 205);
/// The page.
pub(crate) const PAPER: RGBColor = RGBColor(255, 255, 255);

// Okabe, M. and Ito, K. (2008), Color Universal Design; yellow is left out, it vanishes on white.
const BLACK: RGBColor = RGBColor(0, 0, 0);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const SKY: RGBColor = RGBColor(86, 180, 233);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const BLUE: RGBColor = RGBColor(0, 114, 178);
const VERMILLION: RGBColor = RGBColor(213, 94, 0);
const PURPLE: RGBColor = RGBColor(204, 121, 167);

/// Type size of tick labels and legends.
pub(crate) const SMALL: f64 = 54.0;
/// Type size of axis names and titles.
pub(crate) const NORMAL: f64 = 60.0;
/// Type size of panel letters.
pub(crate) const LARGE: f64 = 80.0;

/// Width of axes and ticks.
pub(crate) const HAIR: f64 = 4.0;
/// Width of curves.
pub(crate) const LINE: f64 = 8.0;
/// Width of paths on small maps.
pub(crate) const MAP_LINE: f64 = 6.5;
/// Half the size of a marker.
pub(crate) const MARKER: f64 = 15.5;
/// Opacity of bands.
pub(crate) const BAND: f64 = 0.16;

/// The shape of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle on its base.
    Triangle,
    /// A triangle on its tip.
    TriangleDown,
    /// A square on its tip.
    Diamond,
}

/// The pattern of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dash {
    /// Unbroken.
    Solid,
    /// Long strokes.
    Long,
    /// Short strokes.
    Short,
    /// Long and short in turn.
    Mixed,
}

impl Dash {
    /// Lengths of strokes and gaps in turn; empty for an unbroken line.
    pub(crate) fn pattern(self) -> &'static [f64] {
        match self {
            Dash::Solid => &[],
            Dash::Long => &[34.0, 16.0],
            Dash::Short => &[10.0, 13.0],
            Dash::Mixed => &[34.0, 13.0, 10.0, 13.0],
        }
    }
}

/// The style of an arm, in all figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    /// Name in legends and captions.
    pub(crate) label: &'static str,
    /// Colour of lines, markers and bands.
    pub(crate) colour: RGBColor,
    /// Shape of markers.
    pub(crate) marker: Marker,
    /// Pattern of lines.
    pub(crate) dash: Dash,
}

const fn look(label: &'static str, colour: RGBColor, marker: Marker, dash: Dash) -> Look {
    Look { label, colour, marker, dash }
}

/// The arms of all figures. Arms that never appear in the same figure may have the same style.
const ARMS: [(&str, Look); 39] = [
    ("full", look("full rule", BLUE, Marker::Circle, Dash::Solid)),
    ("neuroplastic", look("NeuroPlastic", BLUE, Marker::Circle, Dash::Solid)),
    ("gradient-only", look("gradient-only", VERMILLION, Marker::Square, Dash::Long)),
    ("gradient-only-matched", look("gradient-only, matched bounds", GREEN, Marker::Triangle, Dash::Short)),
    ("gradient-only-step", look("gradient-only, matched step", PURPLE, Marker::Diamond, Dash::Mixed)),
    ("gradient-only-tuned", look("gradient-only, own best rate", BLACK, Marker::TriangleDown, Dash::Short)),
    ("coefficient-one", look("coefficient 1", PURPLE, Marker::Diamond, Dash::Mixed)),
    // Parts of the rule, switched off (figure 8 names them and shows no colour of theirs).
    ("no-signal-normalization", look("no signal normalisation", GREEN, Marker::Triangle, Dash::Short)),
    ("no-norm-clip", look("no norm clip", VERMILLION, Marker::Square, Dash::Long)),
    ("no-rms-gain", look("no RMS gain", PURPLE, Marker::Diamond, Dash::Mixed)),
    ("none", look("none of the three", BLACK, Marker::TriangleDown, Dash::Solid)),
    // The same in figure 12, whose rows have names.
    ("no-activity", look("without activity", BLUE, Marker::Circle, Dash::Solid)),
    ("no-memory", look("without memory", BLUE, Marker::Circle, Dash::Solid)),
    ("no-gradient-weight", look("gradient weight 0", BLUE, Marker::Circle, Dash::Solid)),
    ("no-gradient-at-all", look("without gradient signal", BLUE, Marker::Circle, Dash::Solid)),
    ("one-a-tensor", look("one coefficient a tensor", BLUE, Marker::Circle, Dash::Solid)),
    ("scale-half", look("scale ½", BLUE, Marker::Circle, Dash::Solid)),
    ("scale-one", look("scale 1", BLUE, Marker::Circle, Dash::Solid)),
    ("no-warmup", look("no warm-up", BLUE, Marker::Circle, Dash::Solid)),
    // Ways of putting the coefficient into the update, a colour a family.
    ("direct", look("direct", BLUE, Marker::Circle, Dash::Solid)),
    ("bounded", look("bounded residual", BLUE, Marker::Circle, Dash::Solid)),
    ("orthogonal", look("orthogonal residual", BLUE, Marker::Circle, Dash::Solid)),
    ("adamw-gain", look("hybrid on AdamW, gain", BLACK, Marker::Triangle, Dash::Short)),
    ("adamw-momentum", look("hybrid on AdamW, momentum", BLACK, Marker::Triangle, Dash::Short)),
    ("adamw-trust-ratio", look("hybrid on AdamW, trust ratio", BLACK, Marker::Triangle, Dash::Short)),
    ("sgd-gain", look("hybrid on SGD, gain or momentum", VERMILLION, Marker::TriangleDown, Dash::Long)),
    ("sgd-trust-ratio", look("hybrid on SGD, trust ratio", VERMILLION, Marker::TriangleDown, Dash::Long)),
    ("controller-global", look("direct, controller on all tensors", GREEN, Marker::Diamond, Dash::Mixed)),
    ("controller-layerwise", look("direct, controller by depth", GREEN, Marker::Diamond, Dash::Mixed)),
    ("controller-classifier", look("direct, controller on the classifier", GREEN, Marker::Diamond, Dash::Mixed)),
    ("sgd", look("SGD", ORANGE, Marker::TriangleDown, Dash::Long)),
    ("plain-sgd", look("SGD without momentum", GREY, Marker::TriangleDown, Dash::Solid)),
    ("sgd-momentum", look("SGD with momentum", ORANGE, Marker::TriangleDown, Dash::Long)),
    ("lion", look("Lion", SKY, Marker::Square, Dash::Short)),
    ("full-appendix-a", look("full rule, Appendix A", BLUE, Marker::Circle, Dash::Long)),
    ("hybrid-sgd-momentum", look("hybrid on SGD, momentum", ORANGE, Marker::Diamond, Dash::Mixed)),
    ("hybrid-adamw", look("hybrid on AdamW", BLACK, Marker::Diamond, Dash::Mixed)),
    ("adam", look("Adam", SKY, Marker::Diamond, Dash::Mixed)),
    ("adamw", look("AdamW", BLACK, Marker::Triangle, Dash::Short)),
];

/// The style of an arm.
pub(crate) fn arm(name: &str) -> Result<Look> {
    match ARMS.iter().find(|(known, _)| *known == name) {
        Some((_, look)) => Ok(*look),
        None => bail!("arm `{name}` has no look\nhint: give it a row in `ARMS` of xtask/src/draw/theme.rs"),
    }
}

/// A shade from 0, dark blue, to 1, yellow, whose lightness grows evenly: between five colours of matplotlib's viridis.
pub(crate) fn shade(value: f64) -> RGBColor {
    const ANCHORS: [[f64; 3]; 5] =
        [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];
    let place = value.clamp(0.0, 1.0) * 4.0;
    let below = (place as usize).min(3);
    let share = place - below as f64;
    let mixed = |i: usize| ((1.0 - share) * ANCHORS[below][i] + share * ANCHORS[below + 1][i]).round() as u8;
    RGBColor(mixed(0), mixed(1), mixed(2))
}

/// A family of related optimizers, and its colour.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    /// Description of the family.
    pub(crate) label: &'static str,
    /// Colour of paths.
    pub(crate) colour: RGBColor,
}

/// The families, in the order in which they are shown.
pub(crate) const FAMILIES: [Family; 7] = [
    Family { label: "NeuroPlastic", colour: BLUE },
    Family { label: "gradient and momentum", colour: ORANGE },
    Family { label: "sign of the gradient", colour: PURPLE },
    Family { label: "second moment alone", colour: GREEN },
    Family { label: "both moments (Adam’s kin)", colour: VERMILLION },
    Family { label: "matrix methods", colour: SKY },
    Family { label: "quasi-Newton", colour: BLACK },
];

impl Family {
    /// Rank, family and name of an optimizer's kind, or of a form of one.
    pub(crate) fn of(kind: &str) -> Result<(usize, &'static Family, &'static str)> {
        let shown = shown();
        match shown.iter().position(|(known, ..)| *known == kind) {
            Some(rank) => Ok((rank, &FAMILIES[shown[rank].1], shown[rank].2)),
            None => bail!("optimizer `{kind}` has no look\nhint: give it a row in crates/np-core/src/optim/rows.rs"),
        }
    }
}

/// Kind, number of its family, and name, in the order in which they are shown: np-core's table, and SGD once more with momentum.
pub(crate) fn shown() -> Vec<(&'static str, usize, &'static str)> {
    let mut all: Vec<_> = ROWS.iter().map(|row| (row.kind, row.family, row.label)).collect();
    if let Some(sgd) = all.iter().position(|(kind, ..)| *kind == "sgd") {
        all.insert(sgd + 1, ("sgd_momentum", all[sgd].1, "SGD, momentum"));
    }
    all
}

/// A row of np-core's table of optimizers.
#[derive(Debug)]
pub(crate) struct Row {
    /// Name in files.
    pub(crate) kind: &'static str,
    /// Name in figures.
    pub(crate) label: &'static str,
    family: usize,
    /// Name in a table, with its forms.
    pub(crate) title: &'static str,
    /// State, in numbers for each element of a parameter.
    pub(crate) state: &'static str,
    /// When to use it.
    pub(crate) when: &'static str,
    /// Reference.
    pub(crate) reference: &'static str,
}

macro_rules! rows {
    ($($variant:ident = $kind:literal => [$($path:tt)+] $config:ident {
        $label:literal, $family:literal, $title:literal, $state:literal, $when:literal, $reference:literal
    };)*) => {
        /// The table of optimizers, as np-core has it.
        pub(crate) const ROWS: &[Row] = &[$(Row {
            kind: $kind, label: $label, family: $family, title: $title, state: $state, when: $when, reference: $reference,
        }),*];
    };
}

optimizers! {
    rows!
    NeuroPlastic = "neuroplastic" => [neuroplastic] NeuroPlasticConfig {
        "NeuroPlastic", 0,
        "NeuroPlastic: direct, bounded or orthogonal residual, hybrid of any optimizer below but K-FAC and L-BFGS, learning-rate controller",
        "3 numbers, and 1 of scratch (hybrid: its base's more)", "to study it", "the paper"
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arms_of_one_figure_differ_in_colour_and_marker() {
        for figure in [
            &["full", "gradient-only", "gradient-only-matched", "gradient-only-step", "gradient-only-tuned"][..],
            &["neuroplastic", "sgd-momentum", "adam", "adamw"],
            &["full", "gradient-only", "gradient-only-matched", "coefficient-one", "sgd"],
            &["neuroplastic", "gradient-only", "gradient-only-matched", "coefficient-one", "plain-sgd"],
        ] {
            let looks: Vec<Look> = figure.iter().map(|name| arm(name).unwrap()).collect();
            for (i, a) in looks.iter().enumerate() {
                assert!(looks[..i].iter().all(|b| a.colour != b.colour && a.marker != b.marker && a.label != b.label));
            }
        }
        assert!(arm("unheard-of").unwrap_err().to_string().contains("hint: give it a row"));
    }
}
