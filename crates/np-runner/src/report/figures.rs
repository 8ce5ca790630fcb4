//! Figures that were drawn before from the same experiment: `FOLDER/figN.svg`, with a caption `figN.md` that names the experiment.

use std::{fs, path::Path};

use np_record::read_regular;

/// A figure and the words that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Figure {
    /// The name of its files, `fig9`.
    pub(super) name: String,
    /// The drawing, as it is spliced into the page.
    pub(super) svg: String,
    /// The caption's first paragraph, without Markdown's emphasis.
    pub(super) caption: String,
    /// The command that redraws it, where the caption says so.
    pub(super) redraw: Option<String>,
}

/// The figures of an experiment, in the order of their file names.
pub(super) fn of(folder: &Path, experiment: &str) -> Vec<Figure> {
    let mut captions: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    captions.sort();
    let figure = |path: &std::path::PathBuf| {
        let read = |path: &Path| String::from_utf8(read_regular(path).ok()??).ok();
        let text = read(path)?;
        text.contains(&format!("experiment `{experiment}`")).then_some(())?;
        let svg = read(&path.with_extension("svg")).filter(|svg| harmless(svg))?;
        let paragraph: Vec<&str> = text.lines().take_while(|line| !line.trim().is_empty()).collect();
        let redraw = text.lines().find_map(|line| line.trim_start_matches("- ").strip_prefix("redraw: `"));
        let redraw = redraw.map(|command| command.trim_end_matches('`').to_owned());
        let name = path.file_stem()?.to_string_lossy().into_owned();
        Some(Figure { name, svg, caption: paragraph.join(" ").replace("**", ""), redraw })
    };
    captions.iter().filter_map(figure).collect()
}

/// Which of some experiments, each with the figures that name it, shows a figure that several are drawn from: the one that it is named after, else
/// the first.
pub(super) fn home<'a>(name: &str, experiments: &[(&'a str, &[Figure])]) -> Option<&'a str> {
    let having = || experiments.iter().filter(|(_, figures)| figures.iter().any(|figure| figure.name == name));
    let named =
        having().find(|(experiment, _)| experiment.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')));
    named.or_else(|| having().next()).map(|(experiment, _)| *experiment)
}

/// A drawing that runs nothing, loads nothing and links nowhere: it becomes part of the page as it stands. So only what drawings are made of may be
/// in it, and every other element or attribute is a reason to leave it out.
fn harmless(svg: &str) -> bool {
    const ELEMENTS: [&str; 12] =
        ["svg", "g", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "title", "desc", "text"];
    svg.starts_with("<svg")
        && svg.split('<').skip(1).all(|part| {
            // Up to the first `>`, wherever it stands: in a value it would leave a quote open, which is none of a drawing's.
            let Some((tag, _)) = part.split_once('>') else { return false };
            let tag = tag.trim_end_matches('/');
            let name = tag.split(char::is_whitespace).next().unwrap_or_default();
            let known = ELEMENTS.contains(&name.trim_start_matches('/'));
            known && attributes(&tag[name.len()..]).is_some_and(|all| all.iter().all(harmless_attribute))
        })
}

/// Names and values, if there is nothing else.
fn attributes(mut text: &str) -> Option<Vec<(&str, &str)>> {
    let mut all = Vec::new();
    loop {
        text = text.trim_start();
        if text.is_empty() {
            return Some(all);
        }
        let (name, rest) = text.split_once('=')?;
        let quote = rest.chars().next().filter(|c| ['"', '\''].contains(c))?;
        let (value, rest) = rest[1..].split_once(quote)?;
        all.push((name, value));
        text = rest;
    }
}

fn harmless_attribute((name, value): &(&str, &str)) -> bool {
    const NAMES: [&str; 28] = [
        "xmlns",
        "width",
        "height",
        "viewBox",
        "role",
        "aria-label",
        "id",
        "d",
        "x",
        "y",
        "x1",
        "y1",
        "x2",
        "y2",
        "cx",
        "cy",
        "r",
        "rx",
        "ry",
        "points",
        "transform",
        "opacity",
        "fill",
        "fill-opacity",
        "fill-rule",
        "stroke",
        "stroke-width",
        "stroke-opacity",
    ];
    let stroke = name.starts_with("stroke-") || name.starts_with("font-") || name.starts_with("text-");
    (NAMES.contains(name) || stroke) && !value.to_lowercase().contains("url(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_the_experiment_that_their_caption_names() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let caption = |experiment: &str| {
            format!(
                "**Figure 2. Sanity.** As seen\nhere.\n\n- scale `cpu`, experiment `{experiment}`, 18 runs\n- redraw: `cargo xtask figures --only 2`\n"
            )
        };
        write("fig2.md", &caption("sanity"));
        write("fig2.svg", "<svg><title>one on two</title></svg>");
        write("fig3.md", &caption("sanity"));
        write("fig3.svg", "<svg><image href='https://example.org/a.png'/></svg>");
        write("fig4.md", &caption("sanity"));
        write("fig6.md", &caption("other"));
        write("fig6.svg", "<svg/>");
        let found = of(dir.path(), "sanity");
        let [figure] = &found[..] else { panic!("{found:?}") };
        assert_eq!(figure.caption, "Figure 2. Sanity. As seen here.");
        assert_eq!(figure.redraw.as_deref(), Some("cargo xtask figures --only 2"));
        assert!(of(dir.path(), "nothing").is_empty() && of(Path::new("nowhere"), "sanity").is_empty());
    }

    #[test]
    fn a_figure_of_several_experiments_is_shown_where_its_name_says() {
        let figure =
            |name: &str| Figure { name: name.into(), svg: String::new(), caption: String::new(), redraw: None };
        let (both, one) = (vec![figure("fig2"), figure("fig9")], vec![figure("fig9")]);
        let all = [("fig2-sanity", &both[..]), ("fig20-other", &both[..]), ("fig9-step", &one[..])];
        assert_eq!(home("fig9", &all), Some("fig9-step"));
        assert_eq!(home("fig2", &all), Some("fig2-sanity"));
        assert_eq!(home("fig9", &all[..2]), Some("fig2-sanity"), "the first, where none is named after it");
        assert_eq!(home("fig3", &all), None);
    }

    #[test]
    fn a_drawing_with_more_than_a_drawing_is_left_out() {
        assert!(harmless("<svg><path d='M 0 0'/></svg>"));
        for bad in [
            "<html>",
            "<svg onload='x()'>",
            "<svg\nonload='x()'>",
            "<svg><a href='b'>",
            "<svg><SCRIPT>",
            "<svg><rect fill='url(#a)'/>",
            "<svg><title a='>' onload='x()'>",
            "<svg><meta http-equiv='refresh' content='0'/></svg>",
            "<svg><!-- > --></svg>",
            "<svg><path d=",
        ] {
            assert!(!harmless(bad), "{bad}");
        }
    }
}
