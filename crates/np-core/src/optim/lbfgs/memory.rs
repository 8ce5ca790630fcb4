//! The memory of L-BFGS from iteration to iteration. It is saved in one piece for each parameter.

use std::collections::VecDeque;

use np_engine::error::Result;
use np_engine::optimizer_state::{Piece, Pieces};

/// What is remembered from iteration to iteration: vectors over all parameters that took part.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// s and y, the oldest first.
    pub(super) pairs: VecDeque<[Vec<f64>; 2]>,
    /// θ and g of the iteration before.
    last: Option<[Vec<f64>; 2]>,
    /// Numbers of the parameters that these vectors are of.
    which: Vec<usize>,
}

pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

impl Memory {
    /// Learns from where the last iteration was and where this one is, both of the parameters with these numbers.
    pub(super) fn learn(&mut self, which: &[usize], theta: &[f64], g: &[f64], history: usize) {
        if self.which != which {
            // Other parameters have gradients now: what was learnt is of other vectors.
            *self = Self { which: which.to_vec(), ..Self::default() };
        }
        if let Some([theta0, g0]) = self.last.take() {
            let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
            let (s, y) = (difference(theta, &theta0), difference(g, &g0));
            // A pair without curvature would make H indefinite.
            if dot(&s, &y) > 1e-10 {
                self.pairs.push_back([s, y]);
            }
        }
        while self.pairs.len() > history {
            self.pairs.pop_front();
        }
        self.last = Some([theta.to_vec(), g.to_vec()]);
    }

    /// −H g.
    pub(super) fn direction(&self, g: &[f64]) -> Vec<f64> {
        let mut d: Vec<f64> = g.iter().map(|g| -g).collect();
        let add = |d: &mut [f64], factor: f64, x: &[f64]| d.iter_mut().zip(x).for_each(|(d, x)| *d += factor * x);
        let mut factors = Vec::with_capacity(self.pairs.len());
        for [s, y] in self.pairs.iter().rev() {
            let factor = dot(s, &d) / dot(s, y);
            add(&mut d, -factor, y);
            factors.push(factor);
        }
        if let Some([s, y]) = self.pairs.back() {
            let scale = dot(s, y) / dot(y, y);
            d.iter_mut().for_each(|d| *d *= scale);
        }
        for ([s, y], factor) in self.pairs.iter().zip(factors.iter().rev()) {
            let other = dot(y, &d) / dot(s, y);
            add(&mut d, factor - other, s);
        }
        d
    }

    /// The t that is tried first.
    pub(super) fn first(&self, lr: f64, g: &[f64]) -> f64 {
        if self.pairs.is_empty() { lr * (1.0 / g.iter().map(|g| g.abs()).sum::<f64>()).min(1.0) } else { lr }
    }

    /// Largest |g| of the iteration before.
    pub(super) fn largest(&self) -> Option<f64> {
        self.last.as_ref().map(|[_, g]| largest(g))
    }

    /// All of it, a piece a parameter: the parameter's part of every vector, and how many pairs there are.
    pub(super) fn pieces(&self, sizes: &[usize]) -> Vec<Piece> {
        let Some([theta, g]) = &self.last else { return vec![] };
        let mut all = Vec::new();
        let mut at = 0;
        for &i in &self.which {
            let own = at..at + sizes[i];
            at = own.end;
            let mut put = |entry: String, x: &[f64]| all.push(Piece::vector(i, entry, x[own.clone()].to_vec()));
            put(THETA.to_string(), theta);
            put(GRADIENT.to_string(), g);
            for (k, [s, y]) in self.pairs.iter().enumerate() {
                put(format!("s.{k}"), s);
                put(format!("y.{k}"), y);
            }
            all.push(Piece::number(i, PAIRS, self.pairs.len() as f64));
        }
        all
    }

    /// What [`Memory::pieces`] gave, put together in this optimizer's order of parameters.
    pub(super) fn load_pieces(pieces: &mut Pieces<'_>) -> Result<Self> {
        let mut memory = Self::default();
        let mut pairs: Option<f64> = None;
        let [mut theta, mut g] = [const { Vec::new() }; 2];
        for i in 0..pieces.parameters() {
            let Some(count) = pieces.number(i, PAIRS)? else { continue };
            let expected =
                pairs.map_or("a number of pairs".to_string(), |n| format!("{n}, as of the parameters before"));
            if pairs.is_some_and(|n| n != count) || count < 0.0 || count.fract() != 0.0 {
                return Err(pieces.mismatch(i, PAIRS, expected, count.to_string()));
            }
            pairs = Some(count);
            theta.extend(pieces.vector(i, THETA)?);
            g.extend(pieces.vector(i, GRADIENT)?);
            let mut k = 0;
            while (k as f64) < count {
                let (s, y) = (pieces.vector(i, &format!("s.{k}"))?, pieces.vector(i, &format!("y.{k}"))?);
                match memory.pairs.get_mut(k) {
                    Some(pair) => pair.iter_mut().zip([s, y]).for_each(|(all, own)| all.extend(own)),
                    None => memory.pairs.push_back([s, y]),
                }
                k += 1;
            }
            memory.which.push(i);
        }
        memory.last = pairs.map(|_| [theta, g]);
        Ok(memory)
    }
}

/// Largest |x|.
pub(super) fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |most: f64, x| most.max(x.abs()))
}

/// Names of the pieces in saved state, beside `s.0`, `y.0` and so on.
const THETA: &str = "theta";
const GRADIENT: &str = "gradient";
const PAIRS: &str = "pairs";
