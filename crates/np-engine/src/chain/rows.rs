//! The launches between passes: sums of a pass, and arithmetic on the rows of tensors.

use np_cuda::machine::Machine;
use np_trace::arithmetic::{self, Operations, Writes};
use np_trace::listed::Listed;
use np_trace::symbol::record_all;

use super::launched::{Known, Launched, known};
use super::queue::Launch;
use super::{Arithmetic, Numbers, within};
use crate::error::Result;

impl<M: Machine> Launched<'_, M> {
    pub(super) fn known_arithmetic(&mut self, arithmetic: &impl Arithmetic, tensor: usize, writes: Writes) -> usize {
        let (form, columns, kept) = (self.form(arithmetic.form(tensor), None), self.columns, self.kept.0);
        known(&mut self.held.operations, form, || {
            let mut to = vec![];
            let recording = record_all(2 * columns + kept, |_, _, all| {
                let (own, rest) = all.split_at(columns);
                let (shared, kept) = rest.split_at(columns);
                let (places, results) = arithmetic.of(tensor, Numbers { own, shared, kept }).into_iter().unzip();
                to = places;
                results
            });
            (recording.arguments.len(), Operations { recording, to, writes })
        })
    }

    /// Arithmetic on the rows of `members`, each with its known form, in one launch, which first adds up the sums of the pass before.
    pub(super) fn launch_rows(&mut self, arithmetic: &impl Arithmetic, members: &[(usize, usize)]) -> Result<()> {
        let (row, kept) = (vec![Listed; self.columns], vec![Listed; self.kept.0]);
        // In the order in which they became known, so that the same forms are the same kernel.
        let mut forms: Vec<usize> = members.iter().map(|(_, known)| *known).collect();
        forms.sort_unstable();
        forms.dedup();
        let (mut parts, mut count) = (vec![], 0);
        let at_arguments = self.held.table.section();
        for (i, known) in members {
            let Known { form, arguments, what: Operations { to, writes, .. } } = &self.held.operations[*known];
            let (form, arguments) = (*form, *arguments);
            let most = match writes {
                Writes::Row => self.columns,
                Writes::Kept => self.kept.0,
            };
            to.iter().try_for_each(|place| within(place + 1, most, || form.name.0))?;
            parts.push([*i, forms.partition_point(|form| form < known), count]);
            count += arguments;
            self.held.list((form, arguments), |_| {
                arithmetic.of(*i, Numbers { own: &row, shared: &row, kept: &kept });
            })?;
        }
        self.push_rows(forms, &parts, at_arguments);
        Ok(())
    }

    /// Adds up the sums of the pass before, if that is still to be done.
    pub(super) fn add_sums(&mut self) {
        if self.sums.is_some() {
            let parts: Vec<[usize; 3]> = (0..self.places.len()).map(|i| [i, 0, 0]).collect();
            self.push_rows(vec![], &parts, 0);
        }
    }

    fn push_rows(&mut self, forms: Vec<usize>, parts: &[[usize; 3]], at_arguments: usize) {
        let table = &mut self.held.table;
        let at_parts = table.section();
        parts.iter().flatten().for_each(|x| table.u32(u32::try_from(*x).unwrap_or(u32::MAX)));
        let rows = &mut self.held.rows;
        let text = rows.iter().position(|(known, _)| *known == forms).unwrap_or_else(|| {
            let operations = forms.iter().map(|known| &self.held.operations[*known].what);
            let text = arithmetic::rows(operations, self.columns);
            rows.push((forms, text));
            rows.len() - 1
        });
        let sums = self.sums.take();
        self.launches.push(Launch::Rows { text, at_parts, at_arguments, count: parts.len(), sums });
    }
}
