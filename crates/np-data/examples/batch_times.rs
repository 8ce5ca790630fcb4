//! Time of a batch of 128 images, prepared by the thread that uses it or by another one, alone and with 3 ms of other work per batch:
//! `cargo run -p neuroplastic-data --example batch_times`.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use np_data::{
    Augmentation, DataName, DataSet, Error, Layout, Loader, Normalization, Pass, Preparation, Prepare, Source,
    epoch_order,
};

const WORK: Duration = Duration::from_millis(3);
const REPEATS: u32 = 5;

fn main() -> Result<(), Error> {
    let split = DataSet::load(DataName::FashionMnist, Source::Mini, None)?.train;
    let all: Vec<u32> = (0..2_000).collect();
    let rgb = Preparation { layout: Layout::Rgb32, ..Normalization::CIFAR10.into() };
    let cases = [
        ("1×28×28", Normalization::HALF.into()),
        ("3×32×32", rgb.clone()),
        ("3×32×32, crop and flip", Preparation { augmentation: Augmentation::CropFlip, ..rgb }),
    ];
    eprintln!("microseconds a batch, least of {REPEATS}");
    for (name, preparation) in &cases {
        for work in [Duration::ZERO, WORK] {
            let times = [Prepare::Inline, Prepare::Ahead].map(|prepare| {
                let once = |epoch| {
                    let pass = Pass::Train { seed: 41, epoch };
                    let loader =
                        Loader { split: &split, preparation, pass, batch_size: NonZeroUsize::MIN.saturating_add(127) };
                    let order = epoch_order(&all, 41, epoch);
                    let began = Instant::now();
                    let mut count = 0;
                    loader.run(&order, prepare, |batches| {
                        while let Some(batch) = batches.next()? {
                            black_box(batch);
                            count += 1;
                            let began = Instant::now();
                            while began.elapsed() < work {
                                std::hint::spin_loop();
                            }
                        }
                        Ok::<(), Error>(())
                    })?;
                    Ok((began.elapsed().as_secs_f64() * 1e6) / f64::from(count))
                };
                (0..REPEATS).map(once).collect::<Result<Vec<f64>, Error>>()
            });
            let [inline, ahead] = times;
            let least = |times: Vec<f64>| times.into_iter().fold(f64::INFINITY, f64::min);
            eprintln!(
                "{name}, {} ms of work: inline {:.0}, ahead {:.0}",
                work.as_millis(),
                least(inline?),
                least(ahead?)
            );
        }
    }
    Ok(())
}
