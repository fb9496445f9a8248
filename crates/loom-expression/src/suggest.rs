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
        .map(|candidate| (distance(&written, candidate), candidate))
        .filter(|&(distance, _)| distance <= allowed)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between the two texts, where a swap of neighbours counts once (optimal string alignment).
fn distance(left: &[char], right: &str) -> usize {
    let right: Vec<char> = right.to_lowercase().chars().collect();
    let width = right.len() + 1;
    let mut rows = vec![vec![0; width], (0..width).collect::<Vec<usize>>()];
    for (row, &l) in left.iter().enumerate() {
        let mut next = vec![row + 1; width];
        for (col, &r) in right.iter().enumerate() {
            let last = &rows[1];
            let mut best = (last[col] + usize::from(l != r)).min(last[col + 1] + 1).min(next[col] + 1);
            if row > 0 && col > 0 && l == right[col - 1] && left[row - 1] == r {
                best = best.min(rows[0][col - 1] + 1);
            }
            next[col + 1] = best;
        }
        rows.remove(0);
        rows.push(next);
    }
    rows[1][width - 1]
}
