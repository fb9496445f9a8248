//! Reads what a coordinator says.

use super::spec::TERMINATE;
use crate::{
    answer::{Answer, StopReason},
    json::Json,
};

/// A selection that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selection {
    /// The name as it is defined; `None` to end the conversation.
    pub(super) next: Option<String>,
    pub(super) instruction: Option<String>,
    /// Whether there was progress; what a model does not say is yes.
    pub(super) progress: bool,
}

/// Reads a selection: JSON with `next`, or a name alone, or a text that mentions exactly one of the names.
///
/// # Errors
/// What the model should be told.
pub(super) fn selection(answer: &Answer, names: &[&str], may_terminate: bool) -> Result<Selection, String> {
    let mut permitted: Vec<&str> = names.to_vec();
    if may_terminate {
        permitted.push(TERMINATE);
    }
    let listed = permitted.join(", ");
    let text = answer.message.text();
    if matches!(answer.stop, StopReason::Length | StopReason::ContextFull) {
        return Err(format!(
            "The answer was cut off. Answer shortly, with `next` first, which must be one of: {listed}."
        ));
    }
    let json = embedded(&text);
    let said = json.as_ref().and_then(|json| json.text_at("next")).unwrap_or(&text);
    let bare = said.trim().trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
    let exact = permitted
        .iter()
        .find(|name| name.eq_ignore_ascii_case(said.trim()) || name.eq_ignore_ascii_case(bare));
    let found = match exact {
        Some(name) => *name,
        None if json.is_some() => {
            return Err(format!("`next` must be one of: {listed} (got {}).", shown(said)));
        }
        None => {
            let mentioned: Vec<&&str> =
                permitted.iter().filter(|name| super::terminate::has_word(said, name)).collect();
            match mentioned[..] {
                [name] => name,
                [] => return Err(format!("The answer names nobody. `next` must be one of: {listed}.")),
                _ => {
                    return Err(format!(
                        "The answer names several. `next` must be exactly one of: {listed}."
                    ));
                }
            }
        }
    };
    let instruction = json.as_ref().and_then(|json| json.text_at("instruction")).map(str::to_owned);
    let progress = json.as_ref().and_then(|json| json.get("progress")?.as_bool()).unwrap_or(true);
    let next = Some(found).filter(|name| *name != TERMINATE).map(str::to_owned);
    Ok(Selection { next, instruction: instruction.filter(|text| !text.is_empty()), progress })
}

fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

/// Whether the goal is reached: JSON with `terminate`, or a text that starts with yes or no.
///
/// # Errors
/// Why the answer cannot be read.
pub(super) fn check(answer: &Answer) -> Result<bool, String> {
    let text = answer.message.text();
    if let Some(terminate) = embedded(&text).and_then(|json| json.get("terminate")?.as_bool()) {
        return Ok(terminate);
    }
    let word: String = text.trim_start().chars().take_while(|c| c.is_alphabetic()).collect();
    match word.to_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("expected `terminate`, found {}", shown(&text))),
    }
}

/// The JSON of an answer: all of it, what a code fence has, or what is between the first and the last brace.
pub(super) fn embedded(text: &str) -> Option<Json> {
    let object = |text: &str| text.trim().parse::<Json>().ok().filter(|json| matches!(json, Json::Object(_)));
    object(text).or_else(|| object(text.get(text.find('{')?..=text.rfind('}')?)?))
}

/// The JSON that an answer must be.
///
/// # Errors
/// What the model should be told.
pub(super) fn structured(answer: &Answer, problem: Option<&str>) -> Result<Json, String> {
    if matches!(answer.stop, StopReason::Length | StopReason::ContextFull) {
        return Err("The answer was cut off before its JSON ended. Answer shorter.".to_owned());
    }
    let text = answer.message.text();
    let json = text.trim().parse::<Json>().ok().or_else(|| embedded(&text));
    match (json, problem) {
        (Some(json), None) => Ok(json),
        (_, Some(problem)) => Err(format!("The answer does not match the schema: {problem}")),
        (None, None) => Err("The answer must be JSON that matches the schema, and nothing else.".to_owned()),
    }
}
