/// Pairs each of `lefts` with one of `rights` so that as many as possible fit: the place on the
/// right for each on the left. An expectation that leaves much open does not take away what another
/// one needs.
pub(super) fn pairs(
    lefts: usize,
    rights: usize,
    fits: &impl Fn(usize, usize) -> bool,
) -> Vec<Option<usize>> {
    let mut taken: Vec<Option<usize>> = vec![None; rights];
    for left in 0..lefts {
        let mut tried = vec![false; rights];
        place(left, fits, &mut taken, &mut tried);
    }
    let mut pairs = vec![None; lefts];
    for (right, left) in taken.into_iter().enumerate() {
        if let Some(pair) = left.and_then(|left| pairs.get_mut(left)) {
            *pair = Some(right);
        }
    }
    pairs
}

/// Finds a place for one on the left, where others may have to move.
fn place(
    left: usize,
    fits: &impl Fn(usize, usize) -> bool,
    taken: &mut Vec<Option<usize>>,
    tried: &mut Vec<bool>,
) -> bool {
    for right in 0..taken.len() {
        if !fits(left, right) || tried.get(right).copied().unwrap_or(true) {
            continue;
        }
        if let Some(tried) = tried.get_mut(right) {
            *tried = true;
        }
        let holder = taken.get(right).copied().flatten();
        if holder.is_none_or(|holder| place(holder, fits, taken, tried)) {
            if let Some(entry) = taken.get_mut(right) {
                *entry = Some(left);
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_possible_fit() {
        for (fitting, expected) in [
            (vec![(0, 0), (0, 1), (1, 0)], vec![Some(1), Some(0)]),
            (vec![(0, 0), (1, 0)], vec![Some(0), None]),
            (vec![], vec![None, None]),
        ] {
            let found = pairs(2, 2, &|left, right| fitting.contains(&(left, right)));
            assert_eq!(found, expected, "{fitting:?}");
        }
    }
}
