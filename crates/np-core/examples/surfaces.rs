//! Paths of all optimizers on two surfaces of two parameters, printed as one JSON object. `cargo xtask figures --only gallery` draws them.
//!
//! Learning rates are the best of a grid, weight decay is 0, and all other settings are the defaults. K-FAC, which needs layers, is left out. The two
//! parameters are one 1 × 2 matrix in double precision, so that optimizers of matrices treat it as a matrix. For optimizers with averaged weights the
//! points are the averages. L-BFGS makes one iteration with a line search in each step.
//!
//! Run with `cargo run -p neuroplastic-core --example surfaces`; it takes seconds.
#![allow(clippy::print_stdout)]

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use np_core::{Error, OptimizerConfig, Result, Weights};
use serde_json::{Value, json};

/// A function of two parameters, with where its minima are and where a path begins. Polynomials, so that no library's rounding is in the paths.
struct Surface {
    name: &'static str,
    value: fn(f64, f64) -> f64,
    gradient: fn(f64, f64) -> [f64; 2],
    minima: &'static [[f64; 2]],
    start: [f64; 2],
    steps: usize,
    /// What is shown of it: ends of x, ends of y, and the values of f whose contours are drawn.
    x: [f64; 2],
    y: [f64; 2],
    levels: &'static [f64],
}

const SURFACES: [Surface; 2] = [
    Surface {
        name: "rosenbrock",
        value: |x, y| (1.0 - x) * (1.0 - x) + 100.0 * (y - x * x) * (y - x * x),
        gradient: |x, y| [-2.0 * (1.0 - x) - 400.0 * x * (y - x * x), 200.0 * (y - x * x)],
        minima: &[[1.0, 1.0]],
        start: [-1.2, 1.0],
        steps: 300,
        x: [-1.75, 1.75],
        y: [-0.6, 1.9],
        levels: &[0.3, 2.0, 10.0, 40.0, 120.0, 300.0],
    },
    Surface {
        name: "himmelblau",
        value: |x, y| (x * x + y - 11.0) * (x * x + y - 11.0) + (x + y * y - 7.0) * (x + y * y - 7.0),
        gradient: |x, y| {
            let (a, b) = (x * x + y - 11.0, x + y * y - 7.0);
            [4.0 * x * a + 2.0 * b, 2.0 * a + 4.0 * y * b]
        },
        // The first is exact, the others to six decimals.
        minima: &[[3.0, 2.0], [-2.805118, 3.131313], [-3.779310, -3.283186], [3.584428, -1.848127]],
        // Near a ridge, so that paths part.
        start: [0.0, -1.0],
        steps: 100,
        x: [-6.0, 6.0],
        y: [-5.0, 5.0],
        levels: &[5.0, 20.0, 50.0, 100.0, 170.0, 300.0, 500.0],
    },
];

/// Learning rates that are tried: 1 and 3 times powers of ten.
const GRID: [f64; 12] = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

type Path = Vec<[f64; 3]>;

fn main() -> Result<()> {
    let (mut surfaces, mut paths) = (Vec::new(), Vec::new());
    for surface in &SURFACES {
        let Surface { name, minima, start, steps, x, y, levels, .. } = surface;
        surfaces.push(json!({
            "name": name, "minima": minima, "start": start, "steps": steps,
            "x": x, "y": y, "levels": levels, "field": field(surface),
        }));
        for (name, settings) in optimizers() {
            let (lr, path) = best(surface, &settings)?;
            let points: Vec<Value> = path.iter().map(|point| json!(point.map(rounded))).collect();
            paths.push(json!({"surface": surface.name, "optimizer": name, "lr": lr, "points": points}));
        }
    }
    println!("{}", json!({"grid": GRID, "left_out": ["kfac"], "surfaces": surfaces, "paths": paths}));
    Ok(())
}

/// f on a grid over what is shown, by row from the lowest y.
fn field(surface: &Surface) -> Vec<Vec<f64>> {
    const CELLS: [u32; 2] = [105, 84];
    let at = |[low, high]: [f64; 2], i: u32, cells: u32| low + (high - low) * f64::from(i) / f64::from(cells);
    let row = |j| {
        let y = at(surface.y, j, CELLS[1]);
        (0..=CELLS[0]).map(|i| rounded((surface.value)(at(surface.x, i, CELLS[0]), y))).collect()
    };
    (0..=CELLS[1]).map(row).collect()
}

/// Names and settings of what is shown, without a learning rate.
fn optimizers() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for config in OptimizerConfig::defaults().into_iter().filter(|config| config.kind() != "kfac") {
        let (kind, mut settings) = (config.kind(), json!(config));
        // Weight decay would move the minimum.
        if let Some(decay) = settings[kind].get_mut("weight_decay") {
            *decay = json!(0.0);
        }
        if kind == "asgd" {
            // Its own decay would move the minimum too; and with the default it would average after a million steps.
            settings[kind]["lambda"] = json!(0.0);
            settings[kind]["t0"] = json!(50.0);
        }
        if kind == "lbfgs" {
            settings[kind]["max_iterations"] = json!(1);
        }
        let momentum = (kind == "sgd").then(|| {
            let mut settings = settings.clone();
            settings["sgd"]["momentum"] = json!(0.9);
            ("sgd_momentum".to_owned(), settings)
        });
        all.push((kind.to_owned(), settings));
        all.extend(momentum);
    }
    all
}

/// The learning rate with the smallest mean of f over the last tenth of the steps, and its path. One that searches its step takes its own.
fn best(surface: &Surface, settings: &Value) -> Result<(f64, Path)> {
    let own = configuration(settings, None)?;
    let rates = if own.kind() == "lbfgs" { vec![own.learning_rate()] } else { GRID.to_vec() };
    let mut best: Option<(f64, f64, Path)> = None;
    for lr in rates {
        let Some(path) = walk(surface, &configuration(settings, Some(lr))?)? else { continue };
        let tail = &path[path.len() - surface.steps / 10..];
        let mean = tail.iter().map(|[_, _, f]| f).sum::<f64>() / tail.len() as f64;
        if best.as_ref().is_none_or(|(least, ..)| mean < *least) {
            best = Some((mean, lr, path));
        }
    }
    let expected = "one that does not diverge".to_owned();
    best.map(|(_, lr, path)| (lr, path)).ok_or(Error::Config { key: "lr".into(), expected, got: format!("{GRID:?}") })
}

fn configuration(settings: &Value, lr: Option<f64>) -> Result<OptimizerConfig> {
    let mut settings = settings.clone();
    if let (Some(lr), Some(fields)) = (lr, settings.as_object_mut()) {
        fields.values_mut().for_each(|fields| fields["lr"] = json!(lr));
    }
    serde_json::from_value(settings).map_err(|error| Error::Config {
        key: "optimizer".into(),
        expected: "a configuration".into(),
        got: error.to_string(),
    })
}

/// Where the optimizer goes: x, y and f at the start and after each step; nothing if it leaves for infinity.
fn walk(surface: &Surface, config: &OptimizerConfig) -> Result<Option<Path>> {
    let var = Var::from_tensor(&Tensor::new(&[surface.start], &Device::Cpu)?)?;
    let mut optimizer = config.build(vec![("fc.weight".into(), var.clone())])?;
    let place = |var: &Var| -> Result<[f64; 2]> {
        let at = var.as_detached_tensor().flatten_all()?.to_vec1::<f64>()?;
        Ok([at[0], at[1]])
    };
    let mut evaluate = || -> Result<(f64, GradStore)> {
        let [x, y] = place(&var)?;
        let mut grads = GradStore::default();
        grads.insert(var.as_tensor(), Tensor::new(&[(surface.gradient)(x, y)], &Device::Cpu)?);
        Ok(((surface.value)(x, y), grads))
    };
    let point = |[x, y]: [f64; 2]| [x, y, (surface.value)(x, y)];
    let mut path = vec![point(surface.start)];
    optimizer.begin_epoch(1, 1);
    for step in 0..surface.steps {
        optimizer.set_position(step as f64 / surface.steps as f64);
        optimizer.step_with(&mut evaluate)?;
        optimizer.use_weights(Weights::Averaged)?;
        path.push(point(place(&var)?));
        optimizer.use_weights(Weights::Trained)?;
        if path.iter().any(|point| point.iter().any(|number| !number.is_finite())) {
            return Ok(None);
        }
    }
    Ok(Some(path))
}

/// A number to six significant digits: what a page can show, and what machines agree on.
fn rounded(x: f64) -> f64 {
    format!("{x:.5e}").parse().unwrap_or(x)
}
