//! "Did you mean": the nearest of the names that exist.

/// The candidate nearest to `wrong`, if one is near enough to be meant: within a third of its length, ignoring case.
pub(crate) fn nearest<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    // A typing slip is short; comparing very long names would cost more than it tells.
    if wrong.chars().count() > 100 {
        return None;
    }
    let allowed = wrong.chars().count().div_ceil(3).min(wrong.chars().count().saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 400)
        .map(|candidate| (distance(&wrong, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint for a wrong name: the nearest candidate, or the whole list where it is short.
pub(crate) fn did_you_mean<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(found) = nearest(wrong, candidates.iter().copied()) {
        return Some(format!("did you mean `{found}`?"));
    }
    match candidates.as_slice() {
        [] => None,
        [only] => Some(format!("there is `{only}`")),
        some if some.len() <= 8 => Some(format!("there are `{}`", some.join("`, `"))),
        _ => None,
    }
}

/// Edits between two texts, a swap of neighbours counted as one (optimal string alignment).
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, left_char) in left.iter().enumerate() {
        let mut next = Vec::with_capacity(right.len() + 1);
        next.push(row + 1);
        for (column, right_char) in right.iter().enumerate() {
            let replaced = last[column] + usize::from(left_char != right_char);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && *left_char == right[column - 1] && left[row - 1] == *right_char {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last[right.len()]
}
