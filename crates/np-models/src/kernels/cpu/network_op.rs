//! A [`Network`] in candle's graph.
//!
//! An operation of candle has at most three operands, a network some sixty. So the graph holds a chain of numbers, tokens: each
//! link has a token and one or two parameters as its operands and computes nothing; the last operation gives the features, and
//! its backward pass runs the network's and leaves the gradients for the links, which candle visits after it on the same thread, to
//! hand over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::batch_norm::{Statistics, running_moments};
use super::network::{Forward, Gradients, Network, Norms, Saved};
use super::{Real, dispatch, with_slice};

/// Normalises with the statistics of the batch, and returns them, one a unit.
pub(crate) fn network_train(network: Network, x: &Tensor, epsilon: f64) -> Result<(Tensor, Vec<Statistics>)> {
    dispatch!("network", x.dtype(), T => {
        let x = x.contiguous()?;
        let forward = with_slice::<T, _>(&x, |x| network.forward(x, Norms::Batch, true, epsilon))?;
        let statistics = forward.batches.iter().map(|batch| {
            let tensor = |values: Vec<f64>| {
                let n = values.len();
                Tensor::from_vec(values, n, x.device())
            };
            Ok(Statistics { mean: tensor(batch.mean.clone())?, unbiased_var: tensor(batch.unbiased_var())? })
        });
        let statistics = statistics.collect::<Result<_>>()?;
        Ok((Run::<T>::link(network, &x, forward, None)?, statistics))
    })
}

/// Normalises with running statistics: a mean and a variance for each unit.
pub(crate) fn network_eval(network: Network, x: &Tensor, running: &[[Tensor; 2]], epsilon: f64) -> Result<Tensor> {
    dispatch!("network", x.dtype(), T => {
        let x = x.contiguous()?;
        let moments = || running.iter().map(|[mean, var]| running_moments::<T>(mean, var, epsilon)).collect::<Result<_>>();
        let norms = Norms::Running(moments()?);
        let forward = with_slice::<T, _>(&x, |x| network.forward(x, norms, false, epsilon))?;
        Run::<T>::link(network, &x, forward, Some((x.detach(), moments()?, epsilon)))
    })
}

/// One pass through a network, shared by the operations that stand for it.
struct Run<T: Real> {
    network: Network,
    saved: Option<Saved<T>>,
    /// What is saved of an evaluation, whose backward pass is rare and repeats the forward pass: x, moments, ε.
    again: Option<Evaluation<T>>,
    of_input: bool,
    /// Those of the last backward pass of each thread: several may go through one graph at once. Links take theirs away, and what is left
    /// of an entry, that of a frozen parameter, say, lasts as long as the graph.
    gradients: Mutex<HashMap<ThreadId, Gradients<T>>>,
}

type Evaluation<T> = (Tensor, Vec<super::batch_norm_rows::Moments<T>>, f64);

impl<T: Real> Run<T> {
    /// The features as a tensor that x and the parameters lead to.
    fn link(network: Network, x: &Tensor, forward: Forward<T>, again: Option<Evaluation<T>>) -> Result<Tensor> {
        let images = x.dim(0)?;
        let units = network.units.clone();
        let of_input = x.track_op();
        let run = Arc::new(Self { network, saved: forward.saved, again, of_input, gradients: Mutex::default() });
        let mut token = x.apply_op1(Input(run.clone()))?;
        for (unit, parameters) in units.iter().enumerate() {
            token = token.apply_op2(&parameters.conv, Conv { run: run.clone(), unit })?;
            let [weight, bias] = &parameters.affine;
            token = token.apply_op3(weight, bias, Affine { run: run.clone(), unit })?;
        }
        let channels = forward.features.len() / images;
        token.apply_op1(Features {
            run,
            features: Mutex::new(Some(forward.features)),
            shape: (images, channels).into(),
        })
    }

    fn backward(&self, dy: &[T]) -> Result<Gradients<T>> {
        match (&self.saved, &self.again) {
            (Some(saved), _) => self.network.backward(saved, dy, self.of_input),
            (None, Some((x, moments, epsilon))) => {
                let norms = Norms::Running(moments.clone());
                let forward = with_slice::<T, _>(x, |x| self.network.forward(x, norms, true, *epsilon))?;
                match &forward.saved {
                    Some(saved) => self.network.backward(saved, dy, self.of_input),
                    None => bail!("a network's forward pass kept nothing"),
                }
            }
            (None, None) => bail!("a network's forward pass kept nothing"),
        }
    }

    /// Leaves a backward pass's gradients for the links.
    fn leave(&self, gradients: Gradients<T>) {
        self.gradients.lock().unwrap_or_else(PoisonError::into_inner).insert(thread::current().id(), gradients);
    }

    /// Takes a part of what this thread's last backward pass left.
    fn take<R>(&self, part: impl FnOnce(&mut Gradients<T>) -> R) -> Result<R> {
        match self.gradients.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&thread::current().id()) {
            Some(gradients) => Ok(part(gradients)),
            None => bail!("a parameter's gradient was asked for before the network's"),
        }
    }
}

fn token<T: Real>() -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(vec![T::ZERO]), Shape::from(1))
}

/// The gradient of a token: nothing reads it, but candle wants one.
fn of_token(token: &Tensor) -> Result<Option<Tensor>> {
    token.track_op().then(|| token.zeros_like()).transpose()
}

/// x → the first token.
struct Input<T: Real>(Arc<Run<T>>);

impl<T: Real> CustomOp1 for Input<T> {
    fn name(&self) -> &'static str {
        "network-input"
    }

    fn cpu_fwd(&self, _x: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(token::<T>())
    }

    fn bwd(&self, x: &Tensor, _token: &Tensor, _d: &Tensor) -> Result<Option<Tensor>> {
        let &[n, channels, h, w] = x.dims() else { bail!("a network's input of {:?}", x.dims()) };
        match self.0.take(|gradients| gradients.x.take())? {
            Some(dx) => Tensor::from_vec(dx, (n, h, w, channels), x.device())?.permute((0, 3, 1, 2)).map(Some),
            None => Ok(None),
        }
    }
}

/// A token and a convolution's weight → a token.
struct Conv<T: Real> {
    run: Arc<Run<T>>,
    unit: usize,
}

impl<T: Real> CustomOp2 for Conv<T> {
    fn name(&self) -> &'static str {
        "network-conv"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(token::<T>())
    }

    fn bwd(&self, token: &Tensor, weight: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dw = self.run.take(|gradients| std::mem::take(&mut gradients.units[self.unit][0]))?;
        Ok((of_token(token)?, Some(Tensor::from_vec(dw, weight.shape(), weight.device())?)))
    }
}

/// A token, γ and β → a token.
struct Affine<T: Real> {
    run: Arc<Run<T>>,
    unit: usize,
}

impl<T: Real> CustomOp3 for Affine<T> {
    fn name(&self) -> &'static str {
        "network-norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(token::<T>())
    }

    fn bwd(
        &self,
        token: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dw, db] = self.run.take(|gradients| {
            let [_, dw, db] = &mut gradients.units[self.unit];
            [dw, db].map(std::mem::take)
        })?;
        let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device()).map(Some);
        Ok((of_token(token)?, tensor(dw, weight)?, tensor(db, bias)?))
    }
}

/// The last token → the features.
struct Features<T: Real> {
    run: Arc<Run<T>>,
    features: Mutex<Option<Vec<T>>>,
    shape: Shape,
}

impl<T: Real> CustomOp1 for Features<T> {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(&self, _token: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        match self.features.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(features) => Ok((T::to_cpu_storage_owned(features), self.shape.clone())),
            None => bail!("a network's features were taken twice"),
        }
    }

    fn bwd(&self, token: &Tensor, _features: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        self.run.leave(with_slice::<T, _>(&dy.contiguous()?, |dy| self.run.backward(dy))?);
        of_token(token)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use candle_core::{Device, Var};

    use super::super::network::Unit;
    use super::*;
    use crate::layers::{Activation, Window};

    /// Hands a tensor on; on the way back, waits for another thread.
    struct Meet(Arc<Barrier>);

    impl CustomOp1 for Meet {
        fn name(&self) -> &'static str {
            "meet"
        }

        fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
            Ok((storage.clone(), layout.shape().clone()))
        }

        fn bwd(&self, _: &Tensor, _: &Tensor, d: &Tensor) -> Result<Option<Tensor>> {
            self.0.wait();
            Ok(Some(d.clone()))
        }
    }

    /// Candle goes back through a link's parameters before it goes on to the next link, so that γ of the last unit is where each of two
    /// threads has left its gradients, and has most of them still to take.
    #[test]
    fn two_threads_go_back_through_one_graph() {
        let variable = |shape: &[usize], first: f64| {
            let n = shape.iter().product::<usize>() as f64;
            let values = Tensor::arange(first, first + n, &Device::Cpu).unwrap().sin().unwrap();
            Var::from_tensor(&values.reshape(shape).unwrap()).unwrap()
        };
        let meeting = Arc::new(Barrier::new(2));
        let variables = [0.0, 10.0].map(|first| [&[2, 2, 1, 1][..], &[2], &[2]].map(|shape| variable(shape, first)));
        let units = variables.iter().enumerate().map(|(i, [conv, weight, bias])| {
            let [conv, weight, bias] = [conv, weight, bias].map(|var| var.as_tensor().clone());
            let weight = if i == 1 { weight.apply_op1(Meet(meeting.clone())).unwrap() } else { weight };
            let window = Window { kernel: 1, stride: 1, padding: 0 };
            Unit { conv, window, affine: [weight, bias], input: i, residual: None, activation: Activation::Relu }
        });
        let x = variable(&[2, 2, 2, 2], 5.0);
        let network = Network::new(units.collect(), x.dims(), Arc::default()).unwrap();
        let features = network_train(network, &x, 1e-5).unwrap().0;
        let gradients = |factor: f64| {
            let loss = (features.sqr().unwrap() * factor).unwrap().sum_all().unwrap();
            let gradients = loss.backward().unwrap();
            let of = |var: &Var| gradients.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            variables.iter().flatten().chain([&x]).map(of).collect::<Vec<_>>()
        };
        let [once, twice] = thread::scope(|scope| {
            [1.0, 2.0]
                .map(|factor| {
                    scope.spawn({
                        let gradients = &gradients;
                        move || gradients(factor)
                    })
                })
                .map(|thread| thread.join().unwrap())
        });
        for (once, twice) in once.iter().zip(&twice) {
            assert!(once.iter().any(|g| *g != 0.0));
            assert_eq!(twice, &once.iter().map(|g| 2.0 * g).collect::<Vec<_>>(), "doubling is exact");
        }
    }
}
