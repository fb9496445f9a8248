//! Did-you-mean suggestions: the known name that is most similar to a misspelled one.

/// The candidate most similar to `written`, ignoring case. `None` if no candidate is within an edit distance of a third
/// of the length, or if every letter would have to change.
pub fn nearest<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Computing a distance takes time in proportion to the product of the lengths, and names of this size are not typed
    // by hand.
    if written.len() > 400 {
        return None;
    }
    let written: Vec<char> = written.to_lowercase().chars().collect();
    let allowed = written.len().div_ceil(3).min(written.len().saturating_sub(1)).min(4);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= 400)
        // The difference in length is a lower bound of the distance. Byte lengths are exact only for ASCII.
        .filter(|candidate| !candidate.is_ascii() || candidate.len().abs_diff(written.len()) <= allowed)
        .filter_map(|candidate| Some((distance(&written, candidate, allowed)?, candidate)))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The edit distance between two strings, in which a swap of neighbouring letters counts as one edit (optimal string
/// alignment); `None` if it exceeds `most`.
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
        // The last two rows are lower bounds for the rest, because a swap looks back two rows.
        if next.iter().chain(&last).all(|&edits| edits > most) {
            return None;
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut next);
    }
    Some(last[width - 1]).filter(|&edits| edits <= most)
}
