//! The charts that all figures are made of.
//!
//! | module | what |
//! |---|---|
//! | [`theme`] | colours, sizes, and the style of each arm, the same in all figures |
//! | [`canvas`] | a page in pixels at 300 dpi: lines, shapes, text; written as SVG and PNG |
//! | [`font`] | the embedded fonts, registered and measured |
//! | [`equation`] | a line of mathematics: subscripts, superscripts, hats |
//! | [`axis`] | ranges and ticks |
//! | [`chart`] | what can be drawn into axes: curves with bands, points with intervals; in rows: intervals (a forest), bars, cells (a heat map) |
//! | [`panel`] | axes with letter and title, filled with layers; panels in a grid above one legend |
//! | [`contour`] | contour lines of a field |
//! | [`map`] | small maps with paths, in a grid |
//! | [`diagram`] | boxes, lanes and arrows |
//!
//! A new kind of chart is a new `Layer` of [`chart`]; a new style is a line of [`theme`].

pub(crate) mod axis;
pub(crate) mod canvas;
pub(crate) mod chart;
pub(crate) mod contour;
pub(crate) mod diagram;
pub(crate) mod equation;
pub(crate) mod font;
pub(crate) mod map;
pub(crate) mod panel;
pub(crate) mod theme;

/// A point in pixels, from the upper left corner.
pub(crate) type Point = (f64, f64);
