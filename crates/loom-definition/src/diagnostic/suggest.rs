//! "Did you mean": suggests a known name for an unknown one.

pub use loom_expression::nearest;

/// The hint for an unknown name: the most similar candidate, or all of them if there are at most eight.
pub fn did_you_mean<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(found) = nearest(wrong, candidates.iter().copied()) {
        return Some(format!("did you mean `{found}`?"));
    }
    match candidates.as_slice() {
        [] => None,
        some if some.len() <= 8 => Some(format!("available: `{}`", some.join("`, `"))),
        _ => None,
    }
}
