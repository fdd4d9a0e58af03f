use transload_envelope::codec::{DecodeError, Reader, put_varint};

/// Positions in ascending runs: first and last of each, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds a position; cheap in ascending order.
    pub(crate) fn push(&mut self, position: u64) {
        self.push_run(position, position);
    }

    fn push_run(&mut self, first: u64, last: u64) {
        match self.0.last_mut() {
            Some(run) if run.1.checked_add(1) == Some(first) => run.1 = last,
            _ => self.0.push((first, last)),
        }
    }

    /// Adds all positions of another.
    pub(crate) fn extend(&mut self, other: &Self) {
        for &(first, last) in &other.0 {
            self.push_run(first, last);
        }
    }

    /// Brings the runs in ascending order.
    pub(crate) fn sort(&mut self) {
        self.0.sort_unstable();
        for (first, last) in std::mem::take(&mut self.0) {
            self.push_run(first, last);
        }
    }

    /// All positions, in order.
    pub(crate) fn positions(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// The first and the last position of sorted runs.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.0.first()?.0, self.0.last()?.1))
    }

    /// Whether a position is in sorted runs.
    pub(crate) fn contains(&self, position: u64) -> bool {
        let next = self.0.partition_point(|run| run.1 < position);
        self.0.get(next).is_some_and(|run| run.0 <= position)
    }

    /// Writes sorted runs: their number, then of each the distance from the end of the one before,
    /// and its length less one.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        put_varint(u64::try_from(self.0.len()).unwrap_or(u64::MAX), into);
        let mut at = 0_u64;
        for &(first, last) in &self.0 {
            put_varint(first.wrapping_sub(at), into);
            put_varint(last.wrapping_sub(first), into);
            at = last;
        }
    }

    pub(crate) fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let mut runs = Self::default();
        let mut at = 0_u64;
        for _ in 0..reader.varint()? {
            let first = at.checked_add(reader.varint()?);
            let last =
                first.and_then(|first| Some((first, first.checked_add(reader.varint().ok()?)?)));
            let (first, last) = last.ok_or(DecodeError::Unknown("a run of positions"))?;
            runs.push_run(first, last);
            at = last;
        }
        Ok(runs)
    }
}

impl FromIterator<u64> for Runs {
    fn from_iter<I: IntoIterator<Item = u64>>(positions: I) -> Self {
        let mut runs = Self::default();
        positions.into_iter().for_each(|position| runs.push(position));
        runs.sort();
        runs
    }
}
