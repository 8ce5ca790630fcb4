//! Batches are the same bits whoever prepares them, in whatever portions, on however many threads.

#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::num::NonZeroUsize;
use std::thread;

use np_data::{
    Augmentation, Batch, DataName, DataSet, Error, Layout, Loader, Normalization, Pass, Preparation, Prepare, Source,
    Split, View, epoch_order,
};

const PASS: Pass = Pass::Train { seed: 41, epoch: 2 };

fn colours(count: usize) -> Split {
    let images = (0..count * 3072).map(|i| (i * 7 % 253 + i / 3072) as u8).collect();
    Split { images, labels: (0..count).map(|i| (i % 10) as u8).collect(), shape: [3, 32, 32] }
}

fn augmented() -> Preparation {
    Preparation { augmentation: Augmentation::CropFlip, ..Normalization::CIFAR10.into() }
}

fn size(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

fn all(loader: &Loader<'_>, order: &[u32], prepare: Prepare) -> Vec<Batch> {
    loader.run(order, prepare, |batches| {
        let mut all = Vec::new();
        while let Some(batch) = batches.next().unwrap() {
            all.push(batch.clone());
        }
        all
    })
}

#[test]
fn ahead_and_inline_give_the_same_batches() {
    let split = colours(50);
    let mini = DataSet::load(DataName::FashionMnist, Source::Mini, None).unwrap().train;
    let rgb = Preparation { layout: Layout::Rgb32, ..augmented() };
    for (split, preparation) in [(&split, &augmented()), (&mini, &rgb), (&mini, &Normalization::HALF.into())] {
        let indices: Vec<u32> = (0..50).collect();
        let order = epoch_order(&indices, 41, 2);
        for batch_size in [1, 7, 50, 64] {
            let loader = Loader { split, preparation, pass: PASS, batch_size: size(batch_size) };
            let inline = all(&loader, &order, Prepare::Inline);
            assert_eq!(inline.len(), 50_usize.div_ceil(batch_size));
            assert_eq!(inline, all(&loader, &order, Prepare::Ahead));
            assert!(all(&loader, &[], Prepare::Ahead).is_empty());
        }
    }
}

#[test]
fn portions_and_threads_do_not_change_a_bit() {
    let (split, preparation) = (colours(48), augmented());
    let image = |index: u32| {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        preparation.fill(&split, &[index], PASS, &mut pixels, &mut labels).unwrap();
        pixels
    };
    let order: Vec<u32> = (0..48).rev().collect();
    let loader = Loader { split: &split, preparation: &preparation, pass: PASS, batch_size: size(48) };
    let whole = all(&loader, &order, Prepare::Inline).remove(0).pixels;
    for threads in [1, 2, 3, 5] {
        let portions = order.chunks(order.len().div_ceil(threads));
        let pixels: Vec<f32> = thread::scope(|scope| {
            let image = &image;
            let work = portions.map(|portion| {
                scope.spawn(move || portion.iter().flat_map(|&index| image(index)).collect::<Vec<f32>>())
            });
            work.collect::<Vec<_>>().into_iter().flat_map(|work| work.join().unwrap()).collect()
        });
        assert!(pixels == whole, "{threads} threads");
    }
}

#[test]
fn an_augmented_image_is_its_view_pixel_by_pixel() {
    let split = colours(20);
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let order: Vec<u32> = (0..20).collect();
    augmented().fill(&split, &order, PASS, &mut pixels, &mut labels).unwrap();
    let mut views = Augmentation::CropFlip.views(41, 2);
    let (mean, std) = ([0.491_f32, 0.482, 0.447], [0.247, 0.243, 0.262]);
    for (index, image) in order.iter().zip(pixels.chunks_exact(3072)) {
        let View { down, right, mirrored } = views.of(*index);
        for (at, &got) in image.iter().enumerate() {
            let (channel, y, x) = (at / 1024, at / 32 % 32, at % 32);
            let (sy, sx) = (y as i32 + down, (if mirrored { 31 - x } else { x }) as i32 + right);
            let inside = (0..32).contains(&sy) && (0..32).contains(&sx);
            let stored = split.image(*index as usize).unwrap();
            let byte = if inside { stored[channel * 1024 + sy as usize * 32 + sx as usize] } else { 0 };
            assert_eq!(got, (f32::from(byte) / 255.0 - mean[channel]) / std[channel], "{index}: {at}");
        }
    }
    let evaluated = |preparation: &Preparation| {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        preparation.fill(&split, &order, Pass::Evaluate, &mut pixels, &mut labels).unwrap();
        pixels
    };
    assert!(evaluated(&augmented()) == evaluated(&Normalization::CIFAR10.into()), "evaluation is never augmented");
}

#[test]
fn a_pass_may_be_left_early_and_an_error_ends_it() {
    let (split, preparation) = (colours(40), augmented());
    let loader = Loader { split: &split, preparation: &preparation, pass: PASS, batch_size: size(2) };
    let order: Vec<u32> = (0..40).collect();
    for prepare in [Prepare::Inline, Prepare::Ahead] {
        let first = loader.run(&order, prepare, |batches| batches.next().unwrap().cloned()).unwrap();
        assert_eq!(first.labels, [0, 1]);
        let error = loader.run(&[0, 1, 2, 3, 40, 5, 6, 7], prepare, |batches| {
            assert_eq!(batches.next().unwrap().unwrap().labels, [0, 1]);
            assert_eq!(batches.next().unwrap().unwrap().labels, [2, 3]);
            batches.next().map(|_| ()).unwrap_err()
        });
        assert!(matches!(error, Error::IndexOutOfRange { expected: 40, found: 40 }), "{error}");
    }
}

#[test]
fn buffers_go_round() {
    let (split, preparation) = (colours(8), augmented());
    let loader = Loader { split: &split, preparation: &preparation, pass: PASS, batch_size: size(2) };
    let order: Vec<u32> = (0..8).cycle().take(200).collect();
    for prepare in [Prepare::Inline, Prepare::Ahead] {
        let places: std::collections::HashSet<_> = loader.run(&order, prepare, |batches| {
            let mut places = std::collections::HashSet::new();
            while let Some(batch) = batches.next().unwrap() {
                places.insert(batch.pixels.as_ptr());
            }
            places
        });
        // one in use, two ready, one in work
        assert!(places.len() <= if prepare == Prepare::Inline { 1 } else { 4 }, "{prepare:?}: {}", places.len());
    }
}
