//! The embedded font DejaVu Sans: registration with plotters and resvg, and text widths.
//!
//! No font of the machine is used, so that every machine draws the same bytes. SVG files contain outlines, not text.

use std::sync::{Arc, LazyLock};

use ab_glyph::{Font as _, FontRef, ScaleFont as _};
use plotters::style::{FontStyle, register_font};
use resvg::usvg::fontdb;

/// The family, for plotters and resvg alike.
pub(crate) const FAMILY: &str = "DejaVu Sans";

static REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans.ttf");
static BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.ttf");

/// The two faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// The upright one.
    Regular,
    /// The bold one.
    Bold,
}

/// A face, parsed; `None` only if the embedded file were not a font, which a test rules out.
static PARSED: LazyLock<[Option<FontRef<'static>>; 2]> =
    LazyLock::new(|| [REGULAR, BOLD].map(|bytes| FontRef::try_from_slice(bytes).ok()));

/// The fonts that resvg may use.
static DATABASE: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut database = fontdb::Database::new();
    database.load_font_data(REGULAR.to_vec());
    database.load_font_data(BOLD.to_vec());
    Arc::new(database)
});

/// Registers the family with plotters, which needs it even if it only writes SVG.
pub(crate) fn register() {
    static ONCE: LazyLock<()> = LazyLock::new(|| {
        // It fails for bytes that are no font only, and the test below reads these.
        let _ = register_font(FAMILY, FontStyle::Normal, REGULAR);
        let _ = register_font(FAMILY, FontStyle::Bold, BOLD);
    });
    LazyLock::force(&ONCE);
}

/// The fonts that resvg may use.
pub(crate) fn database() -> Arc<fontdb::Database> {
    Arc::clone(&DATABASE)
}

/// Width of `text` at a type size of `size` pixels per em.
pub(crate) fn width(text: &str, size: f64, face: Face) -> f64 {
    let Some(font) = &PARSED[face as usize] else { return 0.0 };
    let em = font.units_per_em().unwrap_or(2048.0);
    // In font units: what ab_glyph calls a scale is the height of a line, not the em.
    let unscaled = font.as_scaled(font.height_unscaled());
    let glyphs: Vec<_> = text.chars().map(|c| font.glyph_id(c)).collect();
    let advances: f32 = glyphs.iter().map(|glyph| unscaled.h_advance(*glyph)).sum();
    let kerning: f32 = glyphs.windows(2).map(|pair| unscaled.kern(pair[0], pair[1])).sum();
    f64::from((advances + kerning) / em) * size
}

/// Whether the face has a glyph of its own for every character.
#[cfg(test)]
pub(crate) fn covers(text: &str, face: Face) -> bool {
    PARSED[face as usize].as_ref().is_some_and(|font| text.chars().all(|c| font.glyph_id(c).0 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_fonts_are_fonts() {
        assert!(PARSED.iter().all(Option::is_some));
        assert_eq!(database().faces().filter(|face| face.families.iter().any(|(name, _)| name == FAMILY)).count(), 2);
        for face in [Face::Regular, Face::Bold] {
            assert!(covers("αρζηθκλτμσε √·⊙←→‖±−≤≥ℓ²’–×…", face));
        }
    }

    #[test]
    fn widths_are_those_of_the_font() {
        // DejaVu Sans: digits are 1303 of 2048 units wide (its hmtx table), and bold is wider.
        assert!((width("0000", 2048.0, Face::Regular) - 4.0 * 1303.0).abs() < 0.5);
        assert!(width("full rule", 50.0, Face::Bold) > width("full rule", 50.0, Face::Regular));
        assert!(width("", 50.0, Face::Regular).abs() < f64::EPSILON);
    }
}
