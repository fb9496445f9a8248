//! String filters: case, encodings, truncation, dates.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use liquid_core::model::{Value, ValueView};
use loom_expression::{NoNames, Object, Options, RecordedContext, Template, percent};

/// Capitalizes every word, as the filter `Capitalize` of DotLiquid 2.0 does.
pub(super) fn title_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for character in text.chars() {
        if starts {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        starts = character.is_whitespace();
    }
    out
}

/// Percent-encodes a string, with `+` for a space.
pub(super) fn url_encode(text: &str) -> String {
    percent::encode(text).replace("%20", "+")
}

/// Decodes a percent-encoded string. Invalid escapes stay unchanged.
pub(super) fn url_decode(text: &str) -> String {
    percent::decode_form(text.as_bytes())
}

/// Escapes the five reserved characters of HTML as entities.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// Replaces the entities of [`escape`] with their characters.
pub(super) fn unescape(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// Removes HTML tags.
pub(super) fn strip_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        out.push_str(before);
        let Some((_, after)) = tag.split_once('>') else {
            out.push('<');
            rest = tag;
            break;
        };
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Shortens a string to at most `length` characters, including the tail.
pub(super) fn truncate(text: &str, length: i64, tail: &str) -> String {
    let Ok(length) = usize::try_from(length) else { return tail.to_owned() };
    if text.is_empty() || text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = length.saturating_sub(tail.chars().count());
    text.chars().take(kept).chain(tail.chars()).collect()
}

/// Shortens a string to at most `words` words, followed by the tail.
pub(super) fn truncate_words(text: &str, words: i64, tail: &str) -> String {
    let Some(words) = usize::try_from(words).ok().filter(|words| *words > 0) else { return tail.to_owned() };
    let all: Vec<&str> = text.split(' ').collect();
    if all.len() <= words { text.to_owned() } else { format!("{}{tail}", all[..words].join(" ")) }
}

/// Encodes a string in standard base64 with padding.
pub(super) fn base64_encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// Decodes base64 to a string.
pub(super) fn base64_decode(text: &str) -> Result<String, String> {
    let bytes =
        STANDARD.decode(text.trim()).map_err(|error| format!("the input is not valid base64: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Formats a timestamp with a .NET format. Input that is not a timestamp is returned unchanged, as DotLiquid does.
pub(super) fn date(input: &Value, format: &str) -> Result<Value, String> {
    if input.is_nil() || format.trim().is_empty() {
        return Ok(input.clone());
    }
    let text = super::shown(input);
    let formatted = "@formatDateTime(variables('at'), variables('format'))";
    let compiled = Template::compile_str(formatted, &NoNames, &Options::default())
        .map_err(|_| "unknown date format".to_owned())?;
    let variables: Object = [
        ("at", loom_expression::Value::from(text.as_str())),
        ("format", loom_expression::Value::from(format)),
    ]
    .into_iter()
    .collect();
    let context: Object = [("variables", loom_expression::Value::from(variables))].into_iter().collect();
    let context = RecordedContext::from_json(&context.into()).map_err(|error| error.to_string())?;
    let made = compiled.evaluate(&context).ok();
    let made = made.and_then(|made| made.as_str().map(|text| Value::scalar(text.to_owned())));
    Ok(made.unwrap_or_else(|| input.clone()))
}
