//! "Did you mean": the nearest of the names that exist, or all of them.

pub use loom_expression::nearest;

/// The hint for a wrong name: the nearest candidate, or the whole list where it is short.
pub fn did_you_mean<'a>(wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
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
