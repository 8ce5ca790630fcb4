//! K-FAC: the gradient, multiplied by the inverse of a Kronecker-factored approximation of the Fisher matrix.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::driver::Driver;
use np_engine::error::{Error, Result, at_least_one, fraction, not_negative, optional, positive};
use np_engine::input::{LayerRecord, StepInput};
use np_engine::matrix::power;
use np_engine::param_state::ParamState;
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_engine::state::compute_dtype;
use np_engine::{cpu, gradients};

optimizer! {
    /// K-FAC: the gradient, multiplied by the inverse of a Fisher matrix that is approximated layer by layer. Every linear or convolutional layer moves along
    /// G⁻¹ V A⁻¹, where V is the gradient of its weight and bias together.
    ///
    /// ```text
    /// A ← ρ A + (1 − ρ) E[ā āᵀ]       ā: the layer's inputs and a 1          G ← ρ G + (1 − ρ) E[e eᵀ]       e: gradients of its outputs
    /// V̂ = (G + √λ/π I)⁻¹ V (A + π √λ I)⁻¹                          π² = (tr A/dim A)/(tr G/dim G)
    /// u = ν V̂,   ν = min(1, √(κ / (η² Σ V̂·V)))                     over all layers together
    /// B ← μ B + u                                                  θ ← (1 − η wd) θ − η B
    /// ```
    ///
    /// The statistics A and G come from records of the layers' inputs and output gradients. `X.weight` and `X.bias` form a layer; parameters without a
    /// record, such as those of a batch norm, move along their gradient. e are gradients of the loss itself, not of one with sampled labels (the
    /// "empirical Fisher"). The inverses are computed in the first step and every [`update_every`](KfacConfig::update_every) steps, by
    /// eigendecomposition on the host. With accumulated gradients, the statistics are the mean over the batches. For a convolution the
    /// expectations sum over positions, as in KFC. References: Martens and Grosse 2015; Grosse and Martens 2016.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Tensor, Var};
    /// let weight = Var::ones((1, 2), DType::F32, &Device::Cpu)?;
    /// let mut kfac = np_core::Kfac::from_named(vec![("fc.weight".into(), weight.clone())], Default::default())?;
    /// let x = Tensor::new(&[[1f32, 0.], [0., 2.]], &Device::Cpu)?;
    /// let y = x.matmul(&weight.as_tensor().t()?)?;
    /// let loss = (y.sqr()?.mean_all()? * 0.5)?;
    /// kfac.observe(&[np_core::LayerRecord::linear("fc", &x, &(&y * 0.5)?)?])?;
    /// kfac.backward_step_report(&loss)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Before each call of `step`, pass a [`LayerRecord`] of every layer to [`Driver::observe`]. Saved state does not contain the records of an
    /// accumulation under way.
    pub type Kfac = Driver<KfacConfig>;

    /// Hyper-parameters of [`Kfac`].
    pub struct KfacConfig = "kfac" {
        /// η, step size, ≥ 0. Default 10⁻³ (usual in public implementations).
        pub lr: f64 = 1e-3, not_negative;
        /// μ, momentum, in [0, 1). Default 0.9 (paper).
        pub momentum: f64 = 0.9, fraction;
        /// ρ, decay of the statistics, in [0, 1); the k-th record has a weight of at least 1/k. Default 0.95 (paper).
        pub decay: f64 = 0.95, fraction;
        /// λ > 0, damping. Default 10⁻³ (usual in public implementations).
        pub damping: f64 = 1e-3, positive;
        /// κ > 0, upper bound of η² Σ V̂·V over all layers; `null`: no bound. Default 10⁻³ (usual in public implementations).
        pub kl_clip: Option<f64> = Some(1e-3), optional(positive);
        /// wd, decoupled weight decay, ≥ 0. Default 0.
        pub weight_decay: f64 = 0.0, not_negative;
        /// Steps between two computations of the inverses, ≥ 1. Default 10 (this crate).
        pub update_every: u64 = 10, at_least_one;
    }
}

/// Records that no step has used yet.
#[derive(Debug, Default)]
pub struct Memory {
    /// Of the batch whose gradients the next call of `step` is given: whether they count is known then.
    seen: HashMap<String, LayerRecord>,
    /// Added up by layer, and how many each sum is of: calls that accumulate have one each.
    records: HashMap<String, (LayerRecord, f64)>,
}

impl Memory {
    /// The batch's gradients were taken: its records count.
    fn take_seen(&mut self) -> Result<()> {
        for (layer, new) in self.seen.drain() {
            let sum = match self.records.remove(&layer) {
                None => (new, 1.0),
                Some((sum, n)) => {
                    let (inputs, outputs) = ((&sum.inputs + &new.inputs)?, (&sum.outputs + &new.outputs)?);
                    (LayerRecord { layer: layer.clone(), inputs, outputs }, n + 1.0)
                }
            };
            self.records.insert(layer, sum);
        }
        Ok(())
    }
}

/// Takes what the layers saw of the batch whose gradients the next step will be given: all of it, or, after an error, nothing.
fn take(params: &[ParamState], records: &[LayerRecord], memory: &mut Memory) -> Result<()> {
    let mut taken = Vec::with_capacity(records.len());
    for record in records {
        let name = format!("{}.weight", record.layer);
        let param = params.iter().find(|s| s.name == name);
        let param = param.ok_or_else(|| Error::Parameter {
            name: name.clone(),
            expected: "a parameter of this name for its layer's record".to_string(),
            got: "none".to_string(),
        })?;
        let dims = param.dims();
        if dims.len() < 2 {
            // No matrix, or not to be seen as one.
            continue;
        }
        let expected = [dims[1..].iter().product::<usize>() + 1, dims[0]];
        let got = [record.inputs.dim(0)?, record.outputs.dim(0)?];
        if expected != got {
            let sizes = |[inputs, outputs]: [usize; 2]| format!("{} inputs and {outputs} outputs", inputs - 1);
            return Err(Error::Parameter { name, expected: sizes(expected), got: sizes(got) });
        }
        taken.push((record.layer.clone(), record.clone()));
    }
    memory.seen.extend(taken);
    Ok(())
}

/// The buffers of a weight, after its momentum.
const FACTORS: [&str; 4] = ["input_covariance", "output_covariance", "input_inverse", "output_inverse"];

impl Rule for KfacConfig {
    type Memory = Memory;

    fn portable(&self) -> bool {
        false
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        let mut all: Vec<Buffer> = vec!["momentum".into()];
        if let [outputs, rest @ ..] = shape
            && !rest.is_empty()
        {
            let inputs = rest.iter().product::<usize>() + 1;
            for (name, n) in FACTORS.iter().zip([inputs, *outputs, inputs, *outputs]) {
                all.push(Buffer::new(*name).shaped([n, n]));
            }
        }
        all
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        // How many records a layer has had.
        &[("records", 0.0)]
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("momentum")
    }

    fn keeps_squares(&self) -> bool {
        // In the product of gradients and directions.
        true
    }

    fn step_input(&self) -> StepInput {
        StepInput::LayerStatistics
    }

    fn observe(&self, params: &[ParamState], records: &[LayerRecord], memory: &mut Memory) -> Result<()> {
        take(params, records, memory)
    }

    fn gradients_accumulated(memory: &mut Memory) -> Result<()> {
        memory.take_seen()
    }

    fn gradients_refused(memory: &mut Memory, all: bool) {
        memory.seen.clear();
        if all {
            memory.records.clear();
        }
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        // Products of tensors wait in rayon, too.
        cpu::on_threads(|| self.directions_here(work, memory))
    }
}

impl KfacConfig {
    fn directions_here(&self, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        gradients::norms(work)?;
        memory.take_seen()?;
        let mut gradients = Vec::with_capacity(work.len());
        for w in work.iter() {
            gradients.push(w.gradient()?);
        }
        let mut directions = gradients.clone();
        let place: HashMap<String, usize> = work.iter().enumerate().map(|(i, w)| (w.param.name.clone(), i)).collect();
        // The state changes at the end, once it is known that all of it can.
        let mut learnt: Vec<Option<Learnt>> = (0..work.len()).map(|_| None).collect();
        for i in 0..work.len() {
            let Some(layer) = work[i].param.name.strip_suffix(".weight").map(str::to_string) else { continue };
            if work[i].param.dims().len() < 2 || gradients[i].elem_count() == 0 {
                continue;
            }
            if let Some((record, n)) = memory.records.get(&layer) {
                learnt[i] = Some(self.learn(&work[i], record, 1.0 / n)?);
            } else if work[i].param.numbers[0] == 0.0 {
                continue;
            }
            let bias = place.get(&format!("{layer}.bias")).copied();
            let kept = work[i].buffers()?;
            let inverses = learnt[i].as_ref().and_then(|l| l.inverses.clone());
            let inverses = inverses.unwrap_or_else(|| [kept[3].clone(), kept[4].clone()]);
            let (u, u_bias) = precondition(&inverses, &gradients[i], bias.map(|b| &gradients[b]))?;
            directions[i] = u;
            if let (Some(b), Some(u)) = (bias, u_bias) {
                directions[b] = u;
            }
        }
        let scale = self.clip(work, &gradients, &directions)?;
        let mut momenta = Vec::with_capacity(work.len());
        for (w, direction) in work.iter().zip(directions) {
            let momentum = &w.buffers()?[0];
            momenta.push(match direction.elem_count() {
                0 => direction,
                _ => ((momentum * self.momentum)? + (direction * scale)?)?,
            });
            finite(w, momenta.last(), "a direction of finite numbers")?;
        }

        memory.records.clear();
        let mut applies = Vec::with_capacity(work.len());
        for ((w, momentum), learnt) in work.iter_mut().zip(momenta).zip(learnt) {
            if let Some(Learnt { records, covariances, inverses }) = learnt {
                w.param.numbers[0] = records;
                for (k, value) in covariances.iter().chain(inverses.iter().flatten()).enumerate() {
                    w.param.state.set(k + 1, value)?;
                }
            }
            w.param.state.set(0, &momentum)?;
            w.param.state.set(w.param.buffers.len(), &momentum)?;
            applies.push(Apply { keep: 1.0 - w.lr * w.weight_decay(self.weight_decay), factor: w.lr });
        }
        Ok(applies)
    }

    /// Statistics of a weight, moved on with `share` of a record, and its inverses when it is their turn.
    fn learn(&self, w: &ParamStep<'_>, record: &LayerRecord, share: f64) -> Result<Learnt> {
        let records = w.param.numbers[0] + 1.0;
        let rho = self.decay.min(1.0 - 1.0 / records);
        let old = w.buffers()?;
        let dtype = compute_dtype(w.grad.dtype());
        let mean = |old: &Tensor, new: &Tensor| {
            let new = new.to_dtype(dtype)?.to_device(w.param.var.device())?;
            let mean = ((old * rho)? + (new * ((1.0 - rho) * share))?)?;
            finite(w, Some(&mean), "finite statistics of its layer").map(|()| mean)
        };
        let covariances = [mean(&old[1], &record.inputs)?, mean(&old[2], &record.outputs)?];
        let mut inverses = None;
        if records == 1.0 || (records as u64).is_multiple_of(self.update_every) {
            let host = |m: &Tensor| m.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
            let (a, g) = (host(&covariances[0])?, host(&covariances[1])?);
            let (na, ng) = (covariances[0].dim(0)?, covariances[1].dim(0)?);
            let trace = |m: &[f64], n: usize| m.iter().step_by(n + 1).sum::<f64>() / n as f64;
            let pi = (trace(&a, na) / trace(&g, ng)).sqrt();
            // A layer whose outputs have no gradient, or whose inputs are all 0.
            let pi = if pi.is_finite() && pi > 0.0 { pi } else { 1.0 };
            let root = self.damping.sqrt();
            let invert = |mut m: Vec<f64>, n: usize, damping: f64| {
                m.iter_mut().step_by(n + 1).for_each(|x| *x += damping);
                // The statistics' rounding may leave eigenvalues below the damping; none truly is.
                let inverse = Tensor::from_vec(power(&m, n, -1.0, damping)?, (n, n), &Device::Cpu)?;
                Ok::<_, Error>(inverse.to_dtype(dtype)?.to_device(w.param.var.device())?)
            };
            inverses = Some([invert(a, na, pi * root)?, invert(g, ng, root / pi)?]);
        }
        Ok(Learnt { records, covariances, inverses })
    }

    /// ν
    fn clip(&self, work: &[ParamStep<'_>], gradients: &[Tensor], directions: &[Tensor]) -> Result<f64> {
        let Some(kappa) = self.kl_clip else { return Ok(1.0) };
        let mut sum = 0.0;
        for ((w, g), u) in work.iter().zip(gradients).zip(directions).filter(|((_, g), _)| g.elem_count() > 0) {
            let dot = (g * u)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
            sum += w.lr * w.lr * dot.abs();
            if !sum.is_finite() {
                let (expected, got) = ("a finite product with its direction".to_string(), format!("{dot}"));
                return Err(Error::Gradient { name: w.param.name.clone(), expected, got });
            }
        }
        Ok(if sum > kappa { (kappa / sum).sqrt() } else { 1.0 })
    }
}

/// What a record makes of a weight's statistics.
struct Learnt {
    records: f64,
    covariances: [Tensor; 2],
    /// Where it was their turn.
    inverses: Option<[Tensor; 2]>,
}

/// `Ok` if all of `x` is finite, else an error that names the parameter.
fn finite(w: &ParamStep<'_>, x: Option<&Tensor>, expected: &str) -> Result<()> {
    let Some(x) = x.filter(|x| x.elem_count() > 0) else { return Ok(()) };
    // 0 for what is finite, and not a number for the rest.
    let zero = (x * 0.0)?.sum_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    if zero == 0.0 {
        return Ok(());
    }
    let got = "some that are not; hint: `clip` gradients, or scale the loss down".to_string();
    Err(Error::Gradient { name: w.param.name.clone(), expected: expected.to_string(), got })
}

/// G⁻¹ V A⁻¹ of a weight, and of its bias with it.
fn precondition([a, inverse]: &[Tensor; 2], g: &Tensor, bias: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
    let (outputs, inputs) = (g.dim(0)?, a.dim(0)? - 1);
    let flat = g.reshape((outputs, inputs))?;
    let last = match bias {
        Some(bias) => bias.reshape((outputs, 1))?,
        None => Tensor::zeros((outputs, 1), g.dtype(), g.device())?,
    };
    let v = Tensor::cat(&[&flat, &last], 1)?;
    let u = inverse.matmul(&v)?.matmul(a)?;
    let weight = u.narrow(1, 0, inputs)?.contiguous()?.reshape(g.shape())?;
    let bias = bias.map(|b| u.narrow(1, inputs, 1)?.contiguous()?.reshape(b.shape())).transpose()?;
    Ok((weight, bias))
}
