//! Where the runs of a launch go: the CPU's cores and the GPUs, each with as many at a time as it is to have.

use std::{collections::VecDeque, process::Command};

use np_record::{Plan, PlannedRun};

use super::{Share, environment};
use crate::gpu::{VISIBLE, wants};

/// GPUs, and how many runs each is to have at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// What a worker has as its `CUDA_VISIBLE_DEVICES`, of each.
    pub devices: Vec<String>,
    /// Runs at a time on each.
    pub jobs: usize,
}

/// Where one run is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spot {
    /// On the CPU.
    Cpu,
    /// On the GPU of this number.
    Gpu(usize),
}

impl Gpus {
    /// Runs at a time on all of them.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.devices.len() * self.jobs
    }

    /// The one with the fewest runs, if it may have another.
    fn free(&self, taken: &[Spot]) -> Option<Spot> {
        let runs = |gpu: &usize| taken.iter().filter(|spot| **spot == Spot::Gpu(*gpu)).count();
        (0..self.devices.len()).min_by_key(runs).filter(|gpu| runs(gpu) < self.jobs).map(Spot::Gpu)
    }
}

/// The first of the waiting runs for which there is room, taken off the queue, and where it goes.
pub(super) fn next(
    waiting: &mut VecDeque<usize>,
    plan: &Plan,
    share: Share,
    gpus: &Gpus,
    taken: &[Spot],
) -> Option<(usize, Spot)> {
    let on_cpu = taken.iter().filter(|spot| **spot == Spot::Cpu).count();
    let cpu = Some(Spot::Cpu).filter(|_| on_cpu < share.jobs);
    let gpu = gpus.free(taken);
    let room = |run: &PlannedRun| if wants(run) { gpu } else { cpu };
    let at = waiting.iter().position(|&index| room(&plan.runs[index]).is_some())?;
    let index = waiting.remove(at)?;
    Some((index, room(&plan.runs[index])?))
}

impl Spot {
    /// Threads of a run there: what a GPU does, one thread asks for.
    pub(super) fn threads(self, share: Share) -> usize {
        match self {
            Self::Cpu => share.threads,
            Self::Gpu(_) => 1,
        }
    }

    /// Gives a worker what it needs in its environment.
    pub(super) fn prepare(self, command: &mut Command, share: Share, gpus: &Gpus) {
        command.envs(environment(&self.threads(share).to_string()));
        if let Self::Gpu(number) = self
            && let Some(device) = gpus.devices.get(number)
        {
            command.env(VISIBLE, device);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ffi::OsStr};

    use serde_json::json;

    use super::*;

    fn plan(devices: &[&str]) -> Plan {
        let run = |device: &&str| PlannedRun {
            id: String::new(),
            arm: String::new(),
            seed: 1,
            axes: BTreeMap::new(),
            config: if *device == "cpu" { json!({"train": {}}) } else { json!({"train": {"device": device}}) },
            data_digest: String::new(),
        };
        let head = json!({"schema": 1, "experiment": "e", "question": "", "scale": "quick", "spec_sha256": "", "overrides": [], "runs": []});
        Plan { runs: devices.iter().map(run).collect(), ..serde_json::from_value(head).unwrap() }
    }

    fn gpus(devices: &[&str], jobs: usize) -> Gpus {
        Gpus { devices: devices.iter().map(|&device| device.to_owned()).collect(), jobs }
    }

    /// Starts all that there is room for.
    fn start(
        waiting: &mut VecDeque<usize>,
        plan: &Plan,
        jobs: usize,
        gpus: &Gpus,
        taken: &mut Vec<Spot>,
    ) -> Vec<(usize, Spot)> {
        let share = Share { jobs, threads: 1 };
        let mut started = Vec::new();
        while let Some((index, spot)) = next(waiting, plan, share, gpus, taken) {
            taken.push(spot);
            started.push((index, spot));
        }
        started
    }

    #[test]
    fn runs_go_to_gpus_in_turn_and_to_cores_beside_them() {
        let plan = plan(&["cuda", "cuda", "cpu", "cuda", "cuda", "cuda", "cpu", "cpu"]);
        let mut waiting: VecDeque<usize> = (0..8).collect();
        let (gpus, mut taken) = (gpus(&["3", "GPU-a"], 2), Vec::new());
        assert_eq!(gpus.runs(), 4);
        let started = start(&mut waiting, &plan, 2, &gpus, &mut taken);
        let [a, b, cpu] = [Spot::Gpu(0), Spot::Gpu(1), Spot::Cpu];
        assert_eq!(started, [(0, a), (1, b), (2, cpu), (3, a), (4, b), (6, cpu)]);
        // A run on the second GPU ends, and then one on the CPU: what waits for the other is passed by.
        taken.remove(1);
        assert_eq!(start(&mut waiting, &plan, 2, &gpus, &mut taken), [(5, b)]);
        taken.remove(1);
        assert_eq!(start(&mut waiting, &plan, 2, &gpus, &mut taken), [(7, cpu)]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn nothing_goes_where_nothing_is() {
        let plan = plan(&["cuda", "cpu"]);
        let mut waiting: VecDeque<usize> = (0..2).collect();
        let started = start(&mut waiting, &plan, 1, &Gpus::default(), &mut Vec::new());
        assert_eq!((started, waiting), (vec![(1, Spot::Cpu)], VecDeque::from([0])));
    }

    #[test]
    fn a_worker_sees_its_own_gpu_alone() {
        let (share, gpus) = (Share { jobs: 1, threads: 4 }, gpus(&["3", "GPU-a"], 1));
        let of = |spot: Spot| {
            let mut command = Command::new("np");
            spot.prepare(&mut command, share, &gpus);
            let value = |name: &str| {
                let mut all = command.get_envs();
                all.find(|(key, _)| *key == OsStr::new(name)).and_then(|(_, value)| value?.to_str().map(str::to_owned))
            };
            (value(VISIBLE), value("RAYON_NUM_THREADS").unwrap())
        };
        assert_eq!(of(Spot::Gpu(1)), (Some("GPU-a".to_owned()), "1".to_owned()));
        assert_eq!(of(Spot::Gpu(0)), (Some("3".to_owned()), "1".to_owned()));
        assert_eq!(of(Spot::Cpu), (None, "4".to_owned()));
    }
}
