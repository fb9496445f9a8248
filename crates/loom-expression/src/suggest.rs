//! Did-you-mean: the known name that is nearest to the one that was written.

/// The candidate nearest to `written`, if one is near enough to be meant: within a third of its length, and never with all of
/// its letters changed. Case does not count.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Distances grow with the product of the lengths; nobody mistypes a name of this size.
    if written.len() > 400 {
        return None;
    }
    let written: Vec<char> = written.to_lowercase().chars().collect();
    let allowed = written.len().div_ceil(3).min(written.len().saturating_sub(1)).min(4);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 400)
        // Each letter more or less is an edit. Bytes tell for sure only where there is one for each letter.
        .filter(|candidate| !candidate.is_ascii() || candidate.len().abs_diff(written.len()) <= allowed)
        .filter_map(|candidate| Some((distance(&written, candidate, allowed)?, candidate)))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between the two texts, where a swap of neighbours counts once (optimal string alignment); none when there are
/// more than `most`.
fn distance(left: &[char], right: &str, most: usize) -> Option<usize> {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    if left.len().abs_diff(right.len()) > most {
        return None;
    }
    let width = right.len() + 1;
    let (mut before, mut last) = (vec![0; width], (0..width).collect::<Vec<usize>>());
    let mut next = vec![0; width];
    for (row, &l) in left.iter().enumerate() {
        next[0] = row + 1;
        for (col, &r) in right.iter().enumerate() {
            let mut best = (last[col] + usize::from(l != r)).min(last[col + 1] + 1).min(next[col] + 1);
            if row > 0 && col > 0 && l == right[col - 1] && left[row - 1] == r {
                best = best.min(before[col - 1] + 1);
            }
            next[col + 1] = best;
        }
        // Both rows above bound what follows: a swap looks back over one.
        if next.iter().chain(&last).all(|&edits| edits > most) {
            return None;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut next);
    }
    Some(last[width - 1]).filter(|&edits| edits <= most)
}
