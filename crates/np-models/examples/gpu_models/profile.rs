//! What a training step's time goes to: its operations, each by itself, many times in a row, one launch after another and not as a graph, on buffers of zeros. The sum is more
//! than a replayed step takes: small operations wait for their launch, convolutions of cuDNN above all, whose call takes some 50 microseconds of the host.

use std::time::Instant;

use candle_core::Device;
use np_cuda::{Arena, Libraries};
use np_models::Model;
use np_models::cuda::program::texts::totals;
use np_models::cuda::program::{Addresses, Op, Pass, Program};
use serde_json::json;

use super::{DType, Outcome, PRECISIONS, address, build, resnet, say};

const TIMES: u32 = 20;

pub(super) fn profile(device: &Device) -> Outcome<()> {
    let Device::Cuda(cuda) = device else { return Err("no CUDA device".into()) };
    for (width, images) in [(64, 128), (16, 128)] {
        for (precision, ..) in PRECISIONS {
            let (architecture, shape) = resnet(width, images);
            let program = Program::new(&architecture, &shape, images, precision, Pass::Train)?;
            let stream = cuda.cuda_stream();
            let mut engine = Libraries::new(stream.clone());
            let (convolutions, products) = program.needs();
            engine.prepare(&convolutions, products)?;
            let model = build(&architecture, DType::F32, device)?;
            let mut at = Addresses::default();
            let mut gradients = Vec::new();
            for (_, var) in model.parameters() {
                let gradient = var.zeros_like()?;
                at.parameters.push(address(&engine, &var)?);
                at.gradients.push(address(&engine, &gradient)?);
                gradients.push(gradient);
            }
            let statistics = model.buffers();
            for (_, var) in &statistics {
                at.statistics.push(address(&engine, var)?);
            }
            let arenas = [program.bytes, 8, 8 * totals::WORDS].map(|bytes| Arena::new(&stream, bytes));
            let [arena, position, sums] = arenas;
            let (arena, position, sums) = (arena?, position?, sums?);
            (at.arena, at.position, at.totals) = (arena.address(), position.address(), sums.address());
            let tables = program.tables(&at)?;
            at.tables = np_cuda::machine::Machine::upload(&mut engine, 0, &tables)?;
            for _ in 0..2 {
                program.run(&mut engine, &at)?;
            }
            sums.read(&stream, 1)?;
            for (number, op) in program.ops.iter().enumerate() {
                let begin = Instant::now();
                for _ in 0..TIMES {
                    program.queue(&mut engine, &at, op)?;
                }
                sums.read(&stream, 1)?;
                let ms = begin.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES);
                let (what, size) = match op {
                    Op::Launch(launch) => {
                        (program.kernels[launch.kernel].name.to_string(), format!("{} blocks", launch.blocks))
                    }
                    Op::Convolve { shape, direction, .. } => (
                        format!("{direction:?}"),
                        format!(
                            "{}→{} of {}, {}×{} by {}",
                            shape.inputs, shape.outputs, shape.height, shape.kernel, shape.kernel, shape.stride
                        ),
                    ),
                    Op::Multiply { product, .. } => {
                        ("Multiply".to_string(), format!("{}×{}×{}", product.rows, product.columns, product.inner))
                    }
                };
                let name = format!("width {width}, {}, {number}", precision.name());
                say(&name, Ok(json!({ "what": what, "size": size, "ms": ms })));
            }
        }
    }
    Ok(())
}
