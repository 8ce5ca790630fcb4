//! Programs on a device: [`Trainer`].

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::cuda_backend::CudaStorage;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{DType, Device, Storage, Tensor, Var};
use np_cuda::machine::Machine;
use np_cuda::{Arena, Graph, Launching, Libraries};

use super::program::{Addresses, texts::totals};
use super::{Architecture, BatchShape, MemoryPlan, Pass, Precision, Program, Totals, memory_plan};
use crate::{Error, Model, Result};

/// The gradients of a model's parameters: tensors that every step writes anew.
#[derive(Debug)]
pub struct GradientTensors {
    named: Vec<(String, Tensor)>,
    store: GradStore,
}

impl GradientTensors {
    /// With the parameters' names, in the model's order; `f32`, of the parameters' shapes.
    #[must_use]
    pub fn named(&self) -> &[(String, Tensor)] {
        &self.named
    }

    /// By the model's variables, as candle's backward pass gives them: what optimizers take.
    #[must_use]
    pub fn store(&self) -> &GradStore {
        &self.store
    }
}

/// A program with what it runs on.
#[derive(Debug)]
struct Prepared {
    program: Program,
    at: Addresses,
    _own: Option<Arena>,
    /// Whether it has run: what has not cannot be captured.
    warm: bool,
    graph: Option<Graph>,
}

/// A model in training on a CUDA device.
///
/// It updates gradients and running statistics; parameters are an optimizer's to update, in place. See the [module](super) for an example.
#[derive(Debug)]
pub struct Trainer {
    architecture: Architecture,
    shape: BatchShape,
    precision: Precision,
    launching: Launching,
    stream: Arc<CudaStream>,
    engine: Libraries,
    /// Programs by pass and number of images. Before what they address, so that graphs go first.
    programs: HashMap<(Pass, usize), Prepared>,
    arena: Arena,
    _position: Arena,
    totals: [Arena; 2],
    addresses: Addresses,
    gradients: GradientTensors,
    /// What the addresses are of.
    _variables: Vec<Var>,
    workspace: usize,
    plan: MemoryPlan,
}

fn stream_of(device: &Device) -> Result<Arc<CudaStream>> {
    match device {
        Device::Cuda(device) => Ok(device.cuda_stream()),
        other => Err(Error::input("the model", "on a CUDA device", format!("{other:?}"))),
    }
}

/// The address of a contiguous tensor of `f32` or `u32` on the device.
fn address(stream: &CudaStream, what: &'static str, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(Error::input(
            what,
            "contiguous and on the CUDA device",
            format!("{:?}, {layout:?}", tensor.device()),
        ));
    };
    let storage: &CudaStorage = storage;
    let place = match tensor.dtype() {
        DType::U32 => np_cuda::address(stream, storage.as_cuda_slice::<u32>()?, start, end),
        _ => np_cuda::address(stream, storage.as_cuda_slice::<f32>()?, start, end),
    };
    Ok(place?)
}

fn index(pass: Pass) -> usize {
    match pass {
        Pass::Train => 0,
        Pass::Evaluate => 1,
    }
}

impl Trainer {
    /// For a model that lies on a CUDA device in `f32`, and whose architecture this is.
    ///
    /// It allocates everything at once: gradients, one block for activations, work memory.
    ///
    /// # Errors
    /// [`Error::Memory`] if the device has too little memory free; [`Error::Input`] if the model is not on a CUDA device or not of that architecture;
    /// [`Error::Config`] for sizes out of range; [`Error::Device`].
    pub fn new(
        architecture: &Architecture,
        model: &dyn Model,
        shape: BatchShape,
        precision: Precision,
        launching: Launching,
    ) -> Result<Self> {
        let parameters = model.parameters();
        let Some((_, first)) = parameters.first() else {
            return Err(Error::input("the model", "one with parameters", "none"));
        };
        let device = first.device().clone();
        let stream = stream_of(&device)?;
        let plan = memory_plan(architecture, &shape, precision)?;
        // The parameters are there already.
        let (free, _) = np_cuda::memory(&stream)?;
        if plan.total() - plan.parameters > free {
            let hint = "a smaller `batch_size`, a narrower model, or `bf16` takes less";
            return Err(Error::Memory { free: free >> 20, plan, hint });
        }
        let count: usize = parameters.iter().map(|(_, var)| var.elem_count()).sum();
        if plan.gradients != 4 * count as u64 {
            let expected = format!("one of {} parameters, as its architecture says", plan.gradients / 4);
            return Err(Error::input("the model", expected, count.to_string()));
        }
        let mut gradients = GradientTensors { named: Vec::new(), store: GradStore::default() };
        let mut addresses = Addresses::default();
        for (name, var) in &parameters {
            let gradient = Tensor::zeros(var.shape(), DType::F32, &device)?;
            addresses.parameters.push(address(&stream, "a parameter", var)?);
            addresses.gradients.push(address(&stream, "a gradient", &gradient)?);
            gradients.store.insert(var, gradient.clone());
            gradients.named.push((name.clone(), gradient));
        }
        let statistics = model.buffers();
        for (_, var) in &statistics {
            addresses.statistics.push(address(&stream, "a running statistic", var)?);
        }
        let arena = Arena::new(&stream, usize::try_from(plan.activations).unwrap_or(usize::MAX))?;
        let position = Arena::new(&stream, 8)?;
        let totals = [Arena::new(&stream, 8 * totals::WORDS)?, Arena::new(&stream, 8 * totals::WORDS)?];
        addresses.arena = arena.address();
        addresses.position = position.address();
        let variables = parameters.into_iter().chain(statistics).map(|(_, var)| var).collect();
        let mut trainer = Self {
            architecture: architecture.clone(),
            shape,
            precision,
            launching,
            engine: Libraries::new(stream.clone()),
            stream,
            programs: HashMap::new(),
            arena,
            _position: position,
            totals,
            addresses,
            gradients,
            _variables: variables,
            workspace: 0,
            plan,
        };
        trainer.prepare(Pass::Train, shape.images)?;
        if shape.evaluation > 0 {
            trainer.prepare(Pass::Evaluate, shape.evaluation)?;
        }
        trainer.plan.workspace = trainer.workspace as u64;
        Ok(trainer)
    }

    /// What it has allocated, with the work memory that the libraries have asked for.
    #[must_use]
    pub fn memory(&self) -> MemoryPlan {
        self.plan
    }

    /// The numbers that it computes with.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Sees to it that there is a program for batches of so many images.
    fn prepare(&mut self, pass: Pass, images: usize) -> Result<()> {
        if self.programs.contains_key(&(pass, images)) {
            return Ok(());
        }
        let most = if pass == Pass::Train { self.shape.images } else { self.shape.evaluation };
        if images == 0 || images > most {
            return Err(Error::input("the images", format!("1 to {most} of them"), images.to_string()));
        }
        let program = Program::new(&self.architecture, &self.shape, images, self.precision, pass)?;
        let (convolutions, products) = program.needs();
        let workspace = self.engine.prepare(&convolutions, products)?;
        if workspace > self.workspace {
            // The libraries' work memory may have moved, and graphs keep addresses.
            self.programs.values_mut().for_each(|prepared| prepared.graph = None);
            self.workspace = workspace;
        }
        let mut at = self.addresses.clone();
        // Fewer images take less, but for how buffers happen to fit together.
        let own = (program.bytes as u64 > self.plan.activations)
            .then(|| Arena::new(&self.stream, program.bytes))
            .transpose()?;
        at.arena = own.as_ref().unwrap_or(&self.arena).address();
        at.totals = self.totals[index(pass)].address();
        at.tables = self.engine.upload(self.programs.len(), &program.tables(&at)?)?;
        self.programs.insert((pass, images), Prepared { program, at, _own: own, warm: false, graph: None });
        Ok(())
    }

    /// Images and labels that fit, as addresses, and how many they are.
    fn check(&self, images: &Tensor, labels: &Tensor) -> Result<(usize, u64, u64)> {
        let each = self.shape.channels * self.shape.height * self.shape.width;
        let count = images.dims().first().copied().unwrap_or(0);
        if count * each != images.elem_count() || images.dtype() != DType::F32 {
            let expected = format!("[images, …] of F32, {each} numbers each");
            return Err(Error::input("the images", expected, format!("{:?} of {:?}", images.dims(), images.dtype())));
        }
        if labels.dims() != [count] || labels.dtype() != DType::U32 {
            let got = format!("{:?} of {:?}", labels.dims(), labels.dtype());
            return Err(Error::input("labels", format!("[{count}] of U32"), got));
        }
        Ok((count, address(&self.stream, "the images", images)?, address(&self.stream, "labels", labels)?))
    }

    fn queue(&mut self, pass: Pass, images: &Tensor, labels: &Tensor, step: u64) -> Result<()> {
        let (count, images, labels) = self.check(images, labels)?;
        self.prepare(pass, count)?;
        let engine = &mut self.engine;
        let Some(Prepared { program, at, warm, graph, .. }) = self.programs.get_mut(&(pass, count)) else {
            return Err(Error::input("the images", "a batch that a program was made for", count.to_string()));
        };
        program.load(engine, at, images, labels, step)?;
        if let Some(graph) = graph {
            return Ok(graph.launch()?);
        }
        if !*warm || self.launching == Launching::Each {
            *warm = true;
            return program.run(engine, at);
        }
        let captured: Result<Graph> = Graph::capture(&self.stream, || program.run(engine, at));
        Ok(graph.insert(captured?).launch()?)
    }

    /// Queues a training step: forward, backward, loss and counts. `images` \[n, …\] of `f32` in the layout of the [`BatchShape`], normalised; `labels` \[n\] of `u32`;
    /// both contiguous and on the device, and free to be dropped or overwritten by what is queued after this. `step` chooses the dropout masks, as in
    /// [`Mode::Train`](crate::Mode::Train).
    ///
    /// The gradients are of the mean loss of the batch. They are the same tensors every time, and hold these numbers until the next step is queued.
    ///
    /// # Errors
    /// [`Error::Input`] if shapes or types do not fit; [`Error::Device`].
    pub fn step(&mut self, images: &Tensor, labels: &Tensor, step: u64) -> Result<&GradientTensors> {
        self.queue(Pass::Train, images, labels, step)?;
        Ok(&self.gradients)
    }

    /// Queues the evaluation of a batch, with running statistics and without dropout; arguments as [`Self::step`] has them.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn evaluate(&mut self, images: &Tensor, labels: &Tensor) -> Result<()> {
        self.queue(Pass::Evaluate, images, labels, 0)
    }

    /// The gradients of the last step, without another.
    #[must_use]
    pub fn gradients(&self) -> &GradientTensors {
        &self.gradients
    }

    /// Waits for the steps queued so far; sums over those since the last read.
    ///
    /// # Errors
    /// [`Error::Device`], also for what has failed since.
    pub fn read(&mut self) -> Result<Totals> {
        self.sums(Pass::Train)
    }

    /// As [`Self::read`], over the batches that were evaluated.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_evaluation(&mut self) -> Result<Totals> {
        self.sums(Pass::Evaluate)
    }

    fn sums(&mut self, pass: Pass) -> Result<Totals> {
        let totals = &mut self.totals[index(pass)];
        let words = totals.read(&self.stream, totals::WORDS)?;
        totals.clear(&self.stream)?;
        Ok(Totals::from_words(&words))
    }
}
