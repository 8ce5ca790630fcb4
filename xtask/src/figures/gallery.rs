//! The gallery: the paths of all optimizers on two surfaces. np-core's example `surfaces` computes them; nothing is trained.

use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::Figure;
use super::table::csv;
use crate::command;
use crate::draw::canvas;
use crate::draw::contour::contours;
use crate::draw::map::{self, Atlas, Map};
use crate::draw::theme::{FAMILIES, Family};

/// The output of the example `surfaces`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Walks {
    /// Learning rates that were tried.
    grid: Vec<f64>,
    /// Kinds of optimizers without a path.
    left_out: Vec<String>,
    surfaces: Vec<Surface>,
    paths: Vec<Walk>,
}

/// The values of a surface on a grid.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Surface {
    name: String,
    minima: Vec<[f64; 2]>,
    start: [f64; 2],
    steps: usize,
    x: [f64; 2],
    y: [f64; 2],
    levels: Vec<f64>,
    field: Vec<Vec<f64>>,
}

/// The path of one optimizer on one surface.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Walk {
    surface: String,
    optimizer: String,
    lr: f64,
    /// x, y and f, at the start and after every step.
    points: Vec<[f64; 3]>,
}

/// Runs the example, which computes the paths.
pub(crate) fn walk(root: &Path) -> Result<Walks> {
    command::json_of(&mut command::cargo(root, &["run", "--quiet", "--example", "surfaces"]))
}

/// Draws the figure.
pub(crate) fn draw(walks: &Walks) -> Result<Figure> {
    let atlases = walks.surfaces.iter().zip('A'..).map(|(surface, letter)| atlas(walks, surface, letter));
    let atlases = atlases.collect::<Result<Vec<Atlas>>>()?;
    let height: f64 = atlases.iter().map(Atlas::height).sum();
    let drawing = canvas::page("Gallery: paths of all optimizers on two surfaces", (map::WIDTH, height), |canvas| {
        let mut top = 0.0;
        atlases.iter().try_for_each(|atlas| {
            atlas.draw(canvas, top)?;
            top += atlas.height();
            Ok(())
        })
    })?;
    Ok(Figure { name: "gallery", drawing, table: table(walks), caption: caption(walks) })
}

fn atlas(walks: &Walks, surface: &Surface, letter: char) -> Result<Atlas> {
    let share = |value: f64, [low, high]: [f64; 2]| (value - low) / (high - low);
    let place = |x: f64, y: f64| (share(x, surface.x), share(y, surface.y));
    let (rows, columns) = (surface.field.len(), surface.field.first().map_or(0, Vec::len));
    if rows < 2 || columns < 2 || surface.field.iter().any(|row| row.len() != columns) {
        bail!("the field of `{}` is no grid", surface.name);
    }
    let lines = surface.levels.iter().flat_map(|level| contours(&surface.field, *level));
    let contours = lines.map(|line| {
        line.into_iter().map(|(i, j)| (i / (columns - 1) as f64, j / (rows - 1) as f64)).collect::<Vec<_>>()
    });
    let mut maps = Vec::new();
    for walk in walks.paths.iter().filter(|walk| walk.surface == surface.name) {
        let (rank, family, name) = Family::of(&walk.optimizer)?;
        let Some([_, _, last]) = walk.points.last() else { bail!("the path of `{}` is empty", walk.optimizer) };
        let map = Map {
            name,
            note: [format!("η {}", walk.lr), format!("f {}", shown(*last))],
            colour: family.colour,
            path: walk.points.iter().map(|[x, y, _]| place(*x, *y)).collect(),
        };
        maps.push((rank, map));
    }
    maps.sort_by_key(|(rank, _)| *rank);
    let range = |name: &str, [low, high]: [f64; 2]| format!("{name} from {low} to {high}").replace('-', "−");
    Ok(Atlas {
        letter,
        title: title(&surface.name, surface.steps),
        contours: contours.collect(),
        minima: surface.minima.iter().map(|[x, y]| place(*x, *y)).collect(),
        maps: maps.into_iter().map(|(_, map)| map).collect(),
        colours: FAMILIES.iter().map(|family| (family.colour, family.label)).collect(),
        notes: vec![
            range("x", surface.x),
            range("y", surface.y),
            format!("contours: {}", numbers(&surface.levels[..surface.levels.len().min(3)]) + ", …"),
            format!("to {}", surface.levels.last().copied().unwrap_or_default()),
        ],
    })
}

/// The two lines above the maps of a surface.
fn title(name: &str, steps: usize) -> [String; 2] {
    let (name, formula) = match name {
        "rosenbrock" => ("Rosenbrock’s valley", "f = (1 − x)² + 100 (y − x²)²"),
        "himmelblau" => ("Himmelblau’s function", "f = (x² + y − 11)² + (x + y² − 7)²"),
        other => (other, "f(x, y)"),
    };
    [format!("{name}, {steps} steps"), formula.to_owned()]
}

fn numbers(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}

/// A value of f, short: two decimals, or one digit and a power of ten; below 10⁻⁹ the digits are a matter of rounding.
fn shown(f: f64) -> String {
    if f < 1e-9 {
        return "< 10⁻⁹".into();
    }
    if (0.01..1000.0).contains(&f) {
        return if f < 10.0 { format!("{f:.2}") } else { format!("{f:.0}") };
    }
    let text = format!("{f:.0e}");
    let (digit, power) = text.split_once('e').unwrap_or((&text, "0"));
    let superscript = power.chars().map(|c| match c {
        '-' => '⁻',
        c => c.to_digit(10).and_then(|d| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(d as usize)).unwrap_or(c),
    });
    format!("{digit}·10{}", superscript.collect::<String>())
}

fn table(walks: &Walks) -> String {
    let mut rows = vec![["surface", "optimizer", "lr", "step", "x", "y", "f"].map(String::from).to_vec()];
    for Walk { surface, optimizer, lr, points } in &walks.paths {
        rows.extend(points.iter().enumerate().map(|(step, point)| {
            let mut row = vec![surface.clone(), optimizer.clone(), lr.to_string(), step.to_string()];
            row.extend(point.map(|number| number.to_string()));
            row
        }));
    }
    csv(&rows)
}

fn caption(walks: &Walks) -> String {
    let starts = walks.surfaces.iter().zip('A'..).map(|(surface, letter)| {
        let [x, y] = surface.start;
        format!("{letter} begins at ({x}, {y}) and has {} steps", surface.steps)
    });
    let starts = starts.collect::<Vec<_>>().join("; ").replace('-', "−");
    let left_out = walks.left_out.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
    format!(
        "**Gallery. Paths of every optimizer on two surfaces of two parameters, gradients without noise.** {starts}. Grey lines are contours of f; \
a path is coloured by the optimizer's family and is cut where it leaves the map; one without a disc ends outside. The momentum of SGD is 0.9. Below each name are the learning rate η and the value of f at the \
end.\n\
\n\
η is, for each optimizer and surface, the one of {} with the smallest mean of f over the last tenth of the steps (L-BFGS: 1); it is constant, and f is that of the last step. All other settings are the \
defaults, but that weight decay is 0, since it would move the minimum: so AdamW is Adam here. The two parameters are one matrix of 1 × 2 in double \
precision. Muon's iteration rounds to bf16. Schedule-free methods and averaged SGD, which averages from step 50 on, show the averaged weights, which are what they evaluate. \
         RAdam's first steps are not adaptive, which is why its η is small. L-BFGS makes one iteration a step and \
searches its length, which takes several evaluations; all others take one. {left_out} is left out: it preconditions layers, and there are none.\n\
\n\
One start without noise says how a method moves, not how it trains a network: two coordinates in a matrix of one row are the least that norms over tensors, \
factored moments and orthogonalised updates can work on.\n\
\n\
Computed by np-core’s example `surfaces`, drawn without data. Redraw: `cargo xtask figures --only gallery`\n",
        numbers(&walks.grid)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::draw::theme::shown as looks;
    use crate::figures::tests::{assert_legible, assert_nothing_overlaps};

    /// Every optimizer that has a look, on two made-up surfaces, spiralling in from the left edge and beyond.
    fn made_up() -> Value {
        let field: Vec<Vec<f64>> =
            (0..15).map(|j| (0..21).map(|i| f64::from((i - 10) * (i - 10) + (j - 7) * (j - 7))).collect()).collect();
        let surface = |name: &str| {
            json!({"name": name, "minima": [[0, 0]], "start": [-2, 0], "steps": 40, "x": [-2, 2], "y": [-1.4, 1.4],
                "levels": [1, 10, 30, 60], "field": field})
        };
        let points: Vec<[f64; 3]> = (0..=40)
            .map(|i| {
                let (r, angle) = (2.0 * 0.9_f64.powi(i), 0.4 * f64::from(i));
                [-r * angle.cos(), r * angle.sin(), r * r]
            })
            .collect();
        let path =
            |surface: &str, kind: &str| json!({"surface": surface, "optimizer": kind, "lr": 0.0003, "points": points});
        let all = |surface: &'static str| looks().into_iter().map(move |(kind, ..)| path(surface, kind));
        let paths: Vec<Value> = all("rosenbrock").chain(all("himmelblau")).collect();
        json!({"grid": [0.1, 1], "left_out": ["kfac"], "surfaces": [surface("rosenbrock"), surface("himmelblau")], "paths": paths})
    }

    fn parsed(value: &Value) -> Walks {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn every_map_is_drawn_and_nothing_overlaps() {
        let figure = draw(&parsed(&made_up())).unwrap();
        assert_nothing_overlaps(&figure);
        assert_legible(&figure);
        for (_, _, name) in looks() {
            let in_keys = 2 * usize::from(FAMILIES.iter().any(|family| family.label == name));
            let count = figure.drawing.source.matches(&format!("\n{name}\n")).count();
            assert_eq!(count, 2 + in_keys, "{name}");
        }
        assert_eq!(figure.table.lines().count(), 1 + 2 * looks().len() * 41);
        assert!(figure.table.starts_with("surface,optimizer,lr,step,x,y,f\nrosenbrock,neuroplastic,0.0003,0,-2,0,4\n"));
        for part in ["`kfac` is left out", "the one of 0.1, 1 with", "A begins at (−2, 0) and has 40 steps; B begins"]
        {
            assert!(figure.caption.contains(part), "{part}\n{}", figure.caption);
        }
        let again = draw(&parsed(&made_up())).unwrap();
        assert!(figure.drawing.svg == again.drawing.svg && figure.drawing.png == again.drawing.png);
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        let fails = |pointer: &str, value: Value| {
            let mut walks = made_up();
            *walks.pointer_mut(pointer).unwrap() = value;
            format!("{:#}", draw(&parsed(&walks)).map(drop).unwrap_err())
        };
        assert!(fails("/paths/0/optimizer", json!("unheard-of")).contains("hint: give it a row in crates/np-core"));
        assert_eq!(fails("/paths/0/points", json!([])), "the path of `neuroplastic` is empty");
        assert_eq!(fails("/surfaces/0/field/3", json!([1])), "the field of `rosenbrock` is no grid");
    }

    #[test]
    fn values_are_short() {
        let all = [0.0, 4.5e-13, 6.4e-5, 9.96e-3, 0.0107, 4.058, 21.3, 999.4, 12345.0].map(shown);
        assert_eq!(all, ["< 10⁻⁹", "< 10⁻⁹", "6·10⁻⁵", "1·10⁻²", "0.01", "4.06", "21", "999", "1·10⁴"]);
    }
}
