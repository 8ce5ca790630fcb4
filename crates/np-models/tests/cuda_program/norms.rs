//! The kernels of batch norms by themselves, on the host, against the formulas in double precision: channels of every kind, forms, and chunks.

use np_cuda::machine::Machine as _;
use np_models::cuda::program::texts::{self, Kernel, Stored, THREADS, TILE, form};
use np_models::layers::BatchNorm2d;

use crate::distance;
use crate::host::compiler;
use crate::host_engine::HostEngine;

const ROWS: usize = 45;

/// Numbers as a device has them, with their values.
struct Numbers {
    words: Vec<u32>,
    halves: Vec<u16>,
    stored: Stored,
}

impl Numbers {
    /// Rounded as they are stored.
    fn of(stored: Stored, values: &[f64]) -> Self {
        let words = values.iter().map(|x| (*x as f32).to_bits());
        let halves = words.clone().map(|bits| ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16).collect();
        Self { words: words.collect(), halves, stored }
    }

    /// None of them written.
    fn unwritten(stored: Stored, len: usize) -> Self {
        Self::of(stored, &vec![f64::from(f32::from_bits(0x7fc0_0000)); len])
    }

    fn address(&self) -> u64 {
        match self.stored {
            Stored::Single => self.words.as_ptr() as u64,
            Stored::Bf16 => self.halves.as_ptr() as u64,
        }
    }

    fn values(&self) -> Vec<f64> {
        // What kernels have written, the compiler has not seen.
        let (words, halves) = std::hint::black_box((&self.words, &self.halves));
        match self.stored {
            Stored::Single => words.iter().map(|bits| f64::from(f32::from_bits(*bits))).collect(),
            Stored::Bf16 => halves.iter().map(|half| f64::from(f32::from_bits(u32::from(*half) << 16))).collect(),
        }
    }
}

/// Numbers around 0.3 that look drawn; those of `seed` 0 are around 5.
fn drawn(len: usize, seed: usize) -> Vec<f64> {
    let shift = if seed == 0 { 5.0 } else { 0.3 };
    (0..len)
        .map(|i| (((i * 7919 + seed * 104_729 + 13) * 2_654_435 % 10_007) as f64 / 5003.5 - 1.0) * 1.7 + shift)
        .collect()
}

/// The forms that a network has.
const FORMS: [u64; 6] = [
    0,
    form::RELU,
    form::TWO | form::WRITE,
    form::RELU | form::TWO | form::WRITE,
    form::RELU | form::FROM_Y | form::WRITE,
    form::RELU | form::FROM_Y | form::TWO | form::WRITE,
];

struct Texts {
    stats: Kernel,
    apply: Kernel,
    sums: [Kernel; 6],
    data: Kernel,
}

fn texts_of(stored: Stored, vector: usize) -> Texts {
    Texts {
        stats: texts::norm_stats(stored, vector),
        apply: texts::norm_apply(stored, vector),
        sums: FORMS.map(|form| texts::norm_back_sums(stored, vector, form)),
        data: texts::norm_back_data(stored, vector),
    }
}

#[test]
fn norms_are_their_formulas_for_all_channels_forms_and_chunks() {
    if !compiler() {
        return;
    }
    let kinds = [(Stored::Single, 4), (Stored::Single, 1), (Stored::Bf16, 8), (Stored::Bf16, 1)];
    let all = kinds.map(|(stored, vector)| (stored, vector, texts_of(stored, vector)));
    let merges = [texts::norm_merge(), texts::norm_back_merge()];
    let of_kinds =
        all.iter().flat_map(|(.., texts)| [&texts.stats, &texts.apply, &texts.data].into_iter().chain(&texts.sums));
    let mut engine = HostEngine::new(of_kinds.chain(&merges));
    // Fewer than a vector; lanes that do not divide 256; a tile and a half; and what networks have.
    for channels in [3, 12, 48, 130, 192] {
        for (stored, vector, texts) in &all {
            if stored.vector(channels) == *vector {
                for chunk in [5, 32] {
                    check(&mut engine, *stored, texts, &merges, channels, chunk);
                }
            }
        }
    }
}

fn check(engine: &mut HostEngine, stored: Stored, texts: &Texts, merges: &[Kernel; 2], channels: usize, chunk: usize) {
    // Of single precision's rounding some tens; of `bf16`'s, 2⁻⁹ of every number, about one.
    let limit = if stored == Stored::Bf16 { 6e-3 } else { 2e-5 };
    let what = format!("{stored:?}, {channels} channels, chunks of {chunk}");
    let (len, single) = (ROWS * channels, Stored::Single);
    let [x, residual, dy, second] = [0, 1, 2, 3].map(|seed| Numbers::of(stored, &drawn(len, seed)));
    let [gamma, beta] = [4, 5].map(|seed| Numbers::of(single, &drawn(channels, seed)));
    let running = [0.0, 1.0].map(|value| Numbers::of(single, &vec![value; channels]));
    let chunks = ROWS.div_ceil(chunk);
    let [partial, moments] = [2 * chunks * channels, 3 * channels].map(|len| Numbers::unwritten(single, len));
    let tiles = channels.div_ceil(TILE);
    let sizes = [ROWS, channels, chunk].map(|n| n as u64);
    let mut launch = |kernel: &Kernel, blocks: usize, numbers: &[&Numbers], more: &[u64]| {
        let words: Vec<u64> = numbers.iter().map(|n| n.address()).chain(more.iter().copied()).collect();
        engine.launch(&kernel.text, kernel.name, blocks, THREADS, &words).unwrap();
    };
    let block = texts::rows_of_block(channels, stored.vector(channels));
    let of_blocks = ROWS.div_ceil(block) * tiles;

    launch(&texts.stats, chunks * tiles, &[&x, &partial], &sizes);
    let mut more = sizes.to_vec();
    more.extend([BatchNorm2d::EPSILON.to_bits(), BatchNorm2d::MOMENTUM.to_bits()]);
    launch(&merges[0], channels.div_ceil(8), &[&partial, &gamma, &running[0], &running[1], &moments], &more);
    let (xs, gammas, betas) = (x.values(), gamma.values(), beta.values());
    let column = |values: &[f64], c: usize| (0..ROWS).map(|r| values[r * channels + c]).collect::<Vec<_>>();
    let rows = ROWS as f64;
    let means: Vec<f64> = (0..channels).map(|c| column(&xs, c).iter().sum::<f64>() / rows).collect();
    let squares = |c: usize| column(&xs, c).iter().map(|x| (x - means[c]).powi(2)).sum::<f64>();
    let inverse: Vec<f64> = (0..channels).map(|c| (squares(c) / rows + BatchNorm2d::EPSILON).sqrt().recip()).collect();
    let scale: Vec<f64> = (0..channels).map(|c| gammas[c] * inverse[c]).collect();
    let expected = [means.clone(), inverse.clone(), scale.clone()].concat();
    let far = distance(&moments.values(), &expected);
    assert!(far <= 2e-6, "{what}: moments, {far}");
    let variances: Vec<f64> = (0..channels).map(|c| 0.9 + BatchNorm2d::MOMENTUM * squares(c) / (rows - 1.0)).collect();
    assert!(distance(&running[1].values(), &variances) <= 2e-6, "{what}: running variance");

    let normal = |i: usize| (xs[i] - means[i % channels]) * scale[i % channels] + betas[i % channels];
    for (relu, adds) in [(0, 0), (1, 0), (1, 1)] {
        let y = Numbers::unwritten(stored, len);
        launch(
            &texts.apply,
            of_blocks,
            &[&x, &moments, &beta, &residual, &y],
            &[sizes[0], sizes[1], block as u64, relu, adds],
        );
        let added = residual.values();
        let sum = |i: usize| normal(i) + if adds == 1 { added[i] } else { 0.0 };
        let expected: Vec<f64> = (0..len).map(|i| if relu == 1 { sum(i).max(0.0) } else { sum(i) }).collect();
        let far = distance(&y.values(), &expected);
        assert!(far <= limit, "{what}: forward, relu {relu}, adds {adds}, {far}");
    }

    // What passed is seen from numbers that are not near 0.
    let y = Numbers::of(stored, &(0..len).map(|i| if i.is_multiple_of(3) { 0.0 } else { 1.0 }).collect::<Vec<_>>());
    for (form, sums) in FORMS.into_iter().zip(&texts.sums) {
        let has = |bit: u64| form & bit != 0;
        let passes =
            |i: usize| !has(form::RELU) || if has(form::FROM_Y) { !i.is_multiple_of(3) } else { normal(i) > 0.0 };
        let (first, other) = (dy.values(), second.values());
        let dz: Vec<f64> = (0..len)
            .map(|i| if passes(i) { first[i] + if has(form::TWO) { other[i] } else { 0.0 } } else { 0.0 })
            .collect();
        let written = Numbers::unwritten(stored, len);
        let [dgamma, dbeta] = [(); 2].map(|()| Numbers::unwritten(single, channels));
        let coefficients = Numbers::unwritten(single, 2 * channels);
        launch(sums, chunks * tiles, &[&x, &moments, &beta, &dy, &second, &y, &written, &partial], &sizes);
        launch(&merges[1], channels.div_ceil(8), &[&partial, &moments, &dgamma, &dbeta, &coefficients], &sizes);
        let dx = Numbers::unwritten(stored, len);
        let (passed, relu) = if has(form::WRITE) { (&written, 0) } else { (&dy, form & form::RELU) };
        launch(
            &texts.data,
            of_blocks,
            &[&x, &moments, &beta, &coefficients, passed, &dx],
            &[sizes[0], sizes[1], block as u64, relu],
        );

        let product =
            |c: usize| column(&dz, c).iter().zip(column(&xs, c)).map(|(d, x)| d * (x - means[c])).sum::<f64>();
        let of_gamma: Vec<f64> = (0..channels).map(|c| product(c) * inverse[c]).collect();
        let of_beta: Vec<f64> = (0..channels).map(|c| column(&dz, c).iter().sum()).collect();
        let of_x: Vec<f64> = (0..len)
            .map(|i| {
                let c = i % channels;
                let slope = -scale[c] * of_gamma[c] * inverse[c] / rows;
                scale[c] * dz[i] + slope * (xs[i] - means[c]) - scale[c] * of_beta[c] / rows
            })
            .collect();
        for (name, ours, expected) in [("gamma", &dgamma, &of_gamma), ("beta", &dbeta, &of_beta), ("x", &dx, &of_x)] {
            let far = distance(&ours.values(), expected);
            assert!(far <= limit, "{what}: gradient of {name}, form {form}, {far}");
        }
        if has(form::WRITE) {
            assert!(distance(&written.values(), &dz) <= limit, "{what}: what passed, form {form}");
        }
    }
}

#[test]
fn a_channel_that_overflows_is_not_taken_for_a_constant_one() {
    if !compiler() {
        return;
    }
    let kernels = [texts::norm_stats(Stored::Single, 1), texts::norm_merge()];
    let mut engine = HostEngine::new(&kernels);
    let single = Stored::Single;
    let x = Numbers::of(single, &(0..8).map(|i| if i % 2 == 0 { 1e20 } else { -1e20 }).collect::<Vec<_>>());
    let [gamma, mean, variance] = [1.0, 0.0, 1.0].map(|value| Numbers::of(single, &[value]));
    let [partial, moments] = [2, 3].map(|len| Numbers::unwritten(single, len));
    let mut launch =
        |kernel: &Kernel, words: &[u64]| engine.launch(&kernel.text, kernel.name, 1, THREADS, words).unwrap();
    launch(&kernels[0], &[x.address(), partial.address(), 8, 1, 8]);
    let [epsilon, momentum] = [BatchNorm2d::EPSILON, BatchNorm2d::MOMENTUM].map(f64::to_bits);
    let addresses = [&partial, &gamma, &mean, &variance, &moments].map(Numbers::address);
    launch(&kernels[1], &[&addresses[..], &[8, 1, 8, epsilon, momentum]].concat());
    assert!(!variance.values()[0].is_finite(), "{:?}", variance.values());
}
