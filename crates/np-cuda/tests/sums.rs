//! Sums and norms of the kernels' texts, run on the host, against the same order of additions written down here.
#![allow(clippy::unwrap_used)]

mod host;
mod nvrtc;

use host::{HostKernel, address, compiler};
use np_cuda::sums::{self, norms};
use np_cuda::table::{CHUNK, Row, Table, pieces};
use nvrtc::Nvrtc;

/// Numbers of both signs about `scale`.
fn numbers(n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % 1013) as f32 / 500.0 - 1.0) * scale).collect()
}

/// As np-engine's CPU adds up: sixteen lanes a chunk, lanes in order, chunks in order.
fn expected(xs: &[f32], scale: f64) -> f64 {
    let chunk = |chunk: &[f32]| {
        let mut lanes = [0.0; sums::LANES];
        for (i, x) in chunk.iter().enumerate() {
            let x = f64::from(*x) * scale;
            lanes[i % sums::LANES] += x * x;
        }
        lanes.iter().sum::<f64>()
    };
    xs.chunks(CHUNK).map(chunk).sum()
}

#[test]
fn norms_have_the_bits_of_the_cpus_order_of_additions() {
    if !compiler() {
        return;
    }
    let squares = HostKernel::new(&sums::squares("float", "float", "", ""), sums::SQUARES);
    let norm = HostKernel::new(&sums::norm(), sums::NORM);
    let clip = HostKernel::new(&sums::clip("float"), sums::CLIP);
    // In range; squares beyond double precision cannot be had of single precision, so sums that are infinite and 0 stand for the two ends.
    for scale in [1.0, f32::INFINITY, 0.0] {
        let mut gradients =
            [numbers(3, scale), numbers(2 * CHUNK + 17, scale), numbers(CHUNK, scale), numbers(40, scale)];
        let lengths: Vec<u64> = gradients.iter().map(|g| g.len() as u64).collect();
        let (mut table, mut first) = (Table::default(), 0u32);
        for gradient in &mut gradients {
            Row { gradient: address(gradient), length: gradient.len() as u64, ..Row::default() }.push(&mut table);
        }
        let at_pieces = table.section();
        table.pieces(pieces(&lengths, CHUNK));
        let at_ranges = table.section();
        for length in &lengths {
            let count = u32::try_from(length.div_ceil(CHUNK as u64)).unwrap();
            table.u32(first);
            table.u32(count);
            first += count;
        }
        let mut bytes = table.bytes().to_vec();
        let base = address(&mut bytes);
        let mut partial = vec![f64::NAN; first as usize + 1];
        let mut out = vec![f64::NAN; norms::EACH + gradients.len()];
        let mut arguments = vec![7.0f32; 2 * 5];
        let (at_partial, at_out) = (address(&mut partial), address(&mut out));
        for attempt in [0, 1] {
            let words = [base + at_pieces as u64, base, at_partial, at_out, 1, attempt];
            squares.launch(first as usize, sums::THREADS, &words);
            norm.launch(1, sums::THREADS, &[base + at_ranges as u64, 4, at_partial + 8, at_out, attempt]);
        }
        clip.launch(1, 32, &[at_out, 2.5f64.to_bits(), address(&mut arguments), 2, 5, 3]);

        let used = if scale.is_infinite() {
            2f64.powi(-600)
        } else if scale == 0.0 {
            2f64.powi(600)
        } else {
            1.0
        };
        let each: Vec<f64> = gradients.iter().map(|g| expected(g, used)).collect();
        let total: f64 = each.iter().sum();
        let bits = |xs: &[f64]| xs.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if !scale.is_infinite() {
            assert_eq!(bits(&out[norms::EACH..]), bits(&each), "{scale}");
            assert_eq!(bits(&[out[norms::TOTAL], out[norms::NORM]]), bits(&[total, total.sqrt() / used]), "{scale}");
        }
        let factor = 2.5 / (total.sqrt() / used + 1e-6);
        let factor = if factor >= 1.0 { 1.0 } else { factor };
        if scale.is_infinite() {
            // Infinity times 0 is among the numbers.
            assert!(out[norms::NORM].is_nan() && out[norms::CLIP].is_nan() && arguments[3].is_nan());
        } else {
            assert_eq!(out[norms::CLIP].to_bits(), factor.to_bits());
            assert_eq!(arguments, [7.0, 7.0, 7.0, factor as f32, 7.0].repeat(2));
        }
    }
}

#[test]
fn sums_compile() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    for real in ["float", "double"] {
        nvrtc.check(&sums::squares(real, real, "", ""), sums::SQUARES);
        nvrtc.check(&sums::clip(real), sums::CLIP);
    }
    nvrtc.check(&sums::norm(), sums::NORM);
}
