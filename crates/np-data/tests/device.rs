//! Batches as a device prepares them, with the kernel run on the host: the numbers of the CPU's path, bit for bit.
#![allow(clippy::unwrap_used)]

#[path = "../../np-cuda/tests/host/mod.rs"]
mod host;
#[path = "../../np-cuda/tests/nvrtc/mod.rs"]
mod nvrtc;

use host::{Host, address, compiler};
use np_data::device::{BUFFERS, DeviceError, DeviceSplit, PREPARE, PixelOrder, kernel};
use np_data::{Augmentation, DataName, DataSet, Error, Layout, Normalization, Pass, Preparation, Source, Split};
use nvrtc::Nvrtc;

/// Made-up images in three colours, of the size of CIFAR-10's: every byte occurs.
fn colours(examples: usize) -> Split {
    let images = (0..examples * 3072).map(|i| ((i * 2_654_435_761) >> 11) as u8).collect();
    Split { images, labels: (0..examples).map(|i| (i * 7 % 10) as u8).collect(), shape: [3, 32, 32] }
}

/// As the CPU prepares them.
fn expected(preparation: &Preparation, split: &Split, indices: &[u32], pass: Pass) -> (Vec<f32>, Vec<u32>) {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    preparation.fill(split, indices, pass, &mut pixels, &mut labels).unwrap();
    (pixels, labels)
}

/// Numbers of images that lie plane by plane, channels last.
fn interleaved(pixels: &[f32], [channels, rows, columns]: [usize; 3]) -> Vec<f32> {
    let plane = rows * columns;
    let image =
        |image: &[f32]| (0..plane * channels).map(|i| image[i % channels * plane + i / channels]).collect::<Vec<_>>();
    pixels.chunks(plane * channels).flat_map(image).collect()
}

/// Every way to prepare images, with the passes that differ.
fn cases(mini: &Split) -> Vec<(Preparation, &Split, Vec<Pass>)> {
    let [train, evaluate] = [Pass::Train { seed: 41, epoch: 3 }, Pass::Evaluate];
    let half = Preparation::from(Normalization::HALF);
    let rgb32 = Preparation { layout: Layout::Rgb32, augmentation: Augmentation::CropFlip, ..half.clone() };
    let shifted = Preparation { augmentation: Augmentation::CropFlip, ..half.clone() };
    vec![(half, mini, vec![evaluate]), (rgb32, mini, vec![train, evaluate]), (shifted, mini, vec![train])]
}

#[test]
fn batches_have_the_bits_of_the_cpus() {
    if !compiler() {
        return;
    }
    let mini = DataSet::load(DataName::FashionMnist, Source::Mini, None).unwrap().train;
    let cifar = colours(50);
    let mut all = cases(&mini);
    let varied = Preparation { augmentation: Augmentation::CropFlip, ..Normalization::CIFAR10.into() };
    all.push((
        varied,
        &cifar,
        vec![Pass::Train { seed: 7, epoch: 0 }, Pass::Train { seed: 7, epoch: 1 }, Pass::Evaluate],
    ));
    for (preparation, split, passes) in all {
        for order in [PixelOrder::Planes, PixelOrder::Interleaved] {
            let mut machine = Host::default();
            let shape = preparation.layout.shape(split.shape).unwrap();
            let mut there = DeviceSplit::upload(&mut machine, 2, split, &preparation, order).unwrap();
            for &pass in &passes {
                // Not in order, one twice, and the last of all.
                let indices: Vec<u32> = (0..23).map(|i| i * 29 % 50).chain([3, 3, split.len() as u32 - 1]).collect();
                there.begin(&mut machine, &indices, pass).unwrap();
                for range in [0..7, 7..8, 8..26] {
                    let (mut want, labels) = expected(&preparation, split, &indices[range.clone()], pass);
                    if order == PixelOrder::Interleaved {
                        want = interleaved(&want, shape);
                    }
                    // What lies behind a batch is left alone.
                    let mut pixels = vec![f32::NAN; want.len() + 1];
                    let mut out = vec![u32::MAX; labels.len() + 1];
                    let places = (address(&mut pixels), address(&mut out));
                    there.batch(&mut machine, range.clone(), places.0, places.1).unwrap();
                    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert!(bits(&pixels[..want.len()]) == bits(&want), "{preparation:?} {order:?} {pass:?} {range:?}");
                    assert!(pixels[want.len()].is_nan());
                    assert_eq!(out, [&labels[..], &[u32::MAX]].concat());
                }
            }
            // Images, labels and tables once, and an order a pass.
            assert_eq!(machine.uploads, BUFFERS - 1 + passes.len());
            assert_eq!(machine.launched, [(PREPARE.to_owned(), 3 * passes.len())]);
        }
    }
}

#[test]
fn what_is_not_there_is_not_prepared() {
    let mut machine = Host::default();
    let cifar = colours(4);
    let one = Preparation::from(Normalization::new(vec![0.0; 2], vec![1.0; 2]).unwrap());
    let refused = DeviceSplit::upload(&mut machine, 0, &cifar, &one, PixelOrder::Planes).unwrap_err();
    assert!(matches!(refused, DeviceError::Data(Error::ChannelMismatch { expected: 3, found: 2 })), "{refused}");
    let plain = Preparation::from(Normalization::CIFAR10);
    let mut there = DeviceSplit::upload(&mut machine, 0, &cifar, &plain, PixelOrder::Planes).unwrap();
    let refused = there.begin(&mut machine, &[0, 4], Pass::Evaluate).unwrap_err();
    assert_eq!(refused.to_string(), "batch: expected indices below 4, found 4");
    there.begin(&mut machine, &[0, 3], Pass::Evaluate).unwrap();
    let refused = there.batch(&mut machine, 1..3, 0, 0).unwrap_err();
    assert_eq!(refused.to_string(), "expected examples among the 2 of the pass, found 1 to 3");
    assert!(machine.launched.is_empty());
}

#[test]
fn the_kernel_compiles() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    for order in [PixelOrder::Planes, PixelOrder::Interleaved] {
        assert_eq!(nvrtc.check(&kernel([1, 28, 28], [3, 32, 32], 1, order), PREPARE), 8);
        assert_eq!(nvrtc.check(&kernel([3, 32, 32], [3, 32, 32], 3, order), PREPARE), 8);
    }
}
