//! How the addresses of two patterns relate.
//!
//! Levels are independent of each other and the rest comes last, so both questions are answered
//! level by level, exactly and in one pass.

use super::{Affix, Level, Pattern};

pub(super) fn overlaps(left: &Pattern, right: &Pattern) -> bool {
    if left.starts_with_wildcard() && right.starts_with_dollar()
        || right.starts_with_wildcard() && left.starts_with_dollar()
    {
        return false;
    }
    let (mut lefts, mut rights) = (left.levels().iter(), right.levels().iter());
    loop {
        match (lefts.next(), rights.next()) {
            (None, None) | (Some(Level::Rest { .. }), _) | (_, Some(Level::Rest { .. })) => {
                return true;
            }
            (Some(left), Some(right)) if levels_overlap(left, right) => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

fn levels_overlap(left: &Level, right: &Level) -> bool {
    match (left, right) {
        (Level::Any { .. } | Level::Rest { .. }, _)
        | (_, Level::Any { .. } | Level::Rest { .. }) => true,
        (Level::Literal(left), Level::Literal(right)) => left == right,
        (Level::Literal(text), Level::Affixed(affix))
        | (Level::Affixed(affix), Level::Literal(text)) => affix.strip(text).is_some(),
        // The longer prefix followed by the longer suffix matches both.
        (Level::Affixed(left), Level::Affixed(right)) => {
            let (a, b): (&Affix, &Affix) = (left, right);
            (a.prefix.starts_with(&*b.prefix) || b.prefix.starts_with(&*a.prefix))
                && (a.suffix.ends_with(&*b.suffix) || b.suffix.ends_with(&*a.suffix))
        }
    }
}

pub(super) fn covers(outer: &Pattern, inner: &Pattern) -> bool {
    if outer.starts_with_wildcard() && inner.starts_with_dollar() {
        return false;
    }
    // An address has at least one level, so a whole pattern `#` is the same as `+/#`.
    if let [Level::Rest { .. }] = inner.levels() {
        return matches!(
            outer.levels(),
            [Level::Rest { .. }] | [Level::Any { .. }, Level::Rest { .. }]
        );
    }
    let (mut outers, mut inners) = (outer.levels().iter(), inner.levels().iter());
    loop {
        match (outers.next(), inners.next()) {
            (None, None) | (Some(Level::Rest { .. }), _) => return true,
            (Some(outer), Some(inner)) if level_covers(outer, inner) => {}
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

fn level_covers(outer: &Level, inner: &Level) -> bool {
    match (outer, inner) {
        (Level::Rest { .. }, _)
        | (Level::Any { .. }, Level::Any { .. } | Level::Literal(_) | Level::Affixed(_)) => true,
        (Level::Literal(outer), Level::Literal(inner)) => outer == inner,
        (Level::Affixed(affix), Level::Literal(text)) => affix.strip(text).is_some(),
        (Level::Affixed(outer), Level::Affixed(inner)) => {
            inner.prefix.starts_with(&*outer.prefix) && inner.suffix.ends_with(&*outer.suffix)
        }
        // The rest stands for no level too, which a single level does not match.
        (_, Level::Rest { .. })
        | (Level::Literal(_), Level::Any { .. } | Level::Affixed(_))
        | (Level::Affixed(_), Level::Any { .. }) => false,
    }
}
