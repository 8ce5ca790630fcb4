//! Performance profiles: the share of problems on which a solver is within a factor of the best one.

use super::count;

/// The performance profiles of several solvers over the same problems.
///
/// With t the cost of solver s on problem p (`None` or infinite if it does not solve it) and r = t / (smallest t of all solvers on p),
/// ρₛ(τ) is the share of problems with r ≤ τ. ρₛ(1) is the share of problems on which s is the best, and ρₛ at a large τ the share that it solves.
/// A problem that no solver solves counts as unsolved for all.
///
/// Dolan, E. D. and Moré, J. J. (2002). Benchmarking optimization software with performance profiles. Mathematical Programming 91, 201–213.
///
/// ```
/// use np_record::stats::Profile;
///
/// // Two problems, two solvers; the second solver never finishes the second problem.
/// let profile = Profile::new(&[vec![Some(2.0), Some(1.0)], vec![Some(5.0), None]]).unwrap();
/// assert_eq!((profile.at(0, 1.0), profile.at(0, 2.0)), (0.5, 1.0));
/// assert_eq!((profile.at(1, 1.0), profile.at(1, 100.0)), (0.5, 0.5));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Ratios to the best, a sorted list a solver; only those of solved problems.
    ratios: Vec<Vec<f64>>,
    problems: usize,
}

impl Profile {
    /// The profiles of `costs[problem][solver]`. `None` if there are no problems or no solvers, if rows have different lengths, or if a cost is
    /// not above 0.
    #[must_use]
    pub fn new(costs: &[Vec<Option<f64>>]) -> Option<Self> {
        let solvers = costs.first()?.len();
        let sound = |cost: &Option<f64>| cost.is_none_or(|cost| cost > 0.0);
        if solvers == 0 || costs.iter().any(|row| row.len() != solvers || !row.iter().all(sound)) {
            return None;
        }
        let mut ratios = vec![Vec::new(); solvers];
        for row in costs {
            let best = row.iter().flatten().copied().fold(f64::INFINITY, f64::min);
            for (ratios, cost) in ratios.iter_mut().zip(row) {
                ratios.extend(cost.filter(|cost| cost.is_finite()).map(|cost| cost / best));
            }
        }
        ratios.iter_mut().for_each(|of| of.sort_by(f64::total_cmp));
        Some(Self { ratios, problems: costs.len() })
    }

    /// Number of problems.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.problems
    }

    /// ρ of solver number `solver` at τ = `tau`; 0 if there is no such solver.
    #[must_use]
    pub fn at(&self, solver: usize, tau: f64) -> f64 {
        let within = self.ratios.get(solver).map_or(0, |ratios| ratios.partition_point(|ratio| *ratio <= tau));
        count(within) / count(self.problems)
    }

    /// The area below ρ from τ = 1 to `largest`, divided by `largest` − 1: 1 for a solver that is the best everywhere, 0 for one that is never
    /// within this factor. With `largest` = 4 it is the score of AlgoPerf.
    ///
    /// Dahl, G. E. et al. (2023). Benchmarking neural network training algorithms. arXiv:2306.07179, §4.5.
    #[must_use]
    pub fn score(&self, solver: usize, largest: f64) -> f64 {
        // Each ratio r raises ρ by 1/n from r on.
        let width = |ratio: &f64| (largest - ratio).max(0.0);
        let area: f64 = self.ratios.get(solver).map_or(0.0, |ratios| ratios.iter().map(width).sum());
        area / count(self.problems) / (largest - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_scores_are_those_of_the_definition() {
        // statistics.py: `profile`, numpy's ratios, their share below τ, and the area below a grid of a million steps
        let costs = [
            vec![Some(120.0), Some(100.0), Some(350.0)],
            vec![Some(40.0), None, Some(40.0)],
            vec![Some(9.0), Some(3.0), Some(6.0)],
            vec![None, None, None],
            vec![Some(10.0), Some(11.0), Some(f64::INFINITY)],
        ];
        let profile = Profile::new(&costs).unwrap();
        let at = |tau| [0, 1, 2].map(|solver| profile.at(solver, tau));
        assert_eq!(at(1.0), [0.4, 0.4, 0.2]);
        assert_eq!(at(1.2), [0.6, 0.6, 0.2]);
        assert_eq!(at(2.0), [0.6, 0.6, 0.4]);
        assert_eq!(at(1e9), [0.8, 0.6, 0.6]);
        for (solver, want) in [0.653_333, 0.593_333, 0.366_667].into_iter().enumerate() {
            // The grid's sum is off by at most a step a jump: 3/10⁶.
            assert!((profile.score(solver, 4.0) - want).abs() < 4e-6, "{}", profile.score(solver, 4.0));
        }
        assert_eq!(profile.problems(), 5);
        assert_eq!((profile.at(9, 1.0), profile.score(9, 4.0)), (0.0, 0.0));
    }

    #[test]
    fn costs_that_are_none() {
        assert_eq!(Profile::new(&[]), None);
        assert_eq!(Profile::new(&[vec![]]), None);
        assert_eq!(Profile::new(&[vec![Some(1.0)], vec![]]), None);
        assert_eq!(Profile::new(&[vec![Some(0.0)]]), None);
        assert_eq!(Profile::new(&[vec![Some(f64::NAN)]]), None);
    }
}
