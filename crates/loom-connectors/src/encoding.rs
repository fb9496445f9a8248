//! Percent-encoding of paths and queries, and the styles of lists.

use loom_expression::Value;

/// Encodes everything except unreserved characters (RFC 3986, section 2.3).
pub(crate) fn component(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            push_escaped(&mut out, byte);
        }
    }
    out
}

/// Encodes what cannot be in a path or a query as it is, and leaves everything else, including escapes that are there.
pub(crate) fn leniently(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte <= b' '
            || byte >= 0x7f
            || matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
        {
            push_escaped(&mut out, byte);
        } else {
            out.push(char::from(byte));
        }
    }
    out
}

fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// How the values of a list, or the properties of an object, become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// One text, with a separator between the values: `csv`, `ssv`, `tsv`, `pipes`.
    Joined(char),
    /// The parameter is repeated for each value: `multi`, or `form` with `explode`.
    Repeated,
    /// `name[key]=value` for each property.
    DeepObject,
    /// The JSON of the value: parameters with `content`.
    Json,
}

impl Style {
    /// The style of a Swagger 2.0 `collectionFormat`.
    pub(crate) fn of_collection_format(name: Option<&str>) -> Style {
        match name {
            Some("multi") => Style::Repeated,
            Some("ssv") => Style::Joined(' '),
            Some("tsv") => Style::Joined('\t'),
            Some("pipes") => Style::Joined('|'),
            _ => Style::Joined(','),
        }
    }

    /// The style of an OpenAPI 3 parameter, with the defaults of its place.
    pub(crate) fn of_style(name: Option<&str>, explode: Option<bool>, is_query: bool) -> Style {
        match (name, explode) {
            (Some("deepObject"), _) => Style::DeepObject,
            (Some("spaceDelimited"), Some(false)) => Style::Joined(' '),
            (Some("pipeDelimited"), Some(false)) => Style::Joined('|'),
            (_, Some(false)) => Style::Joined(','),
            (None | Some("form"), None) if !is_query => Style::Joined(','),
            (Some("simple" | "label" | "matrix"), _) => Style::Joined(','),
            _ if is_query => Style::Repeated,
            _ => Style::Joined(','),
        }
    }
}

/// The texts of a value with their names, before any encoding.
pub(crate) fn pairs(name: &str, value: &Value, style: Style) -> Vec<(String, Value)> {
    let secret = value.contains_secret();
    let plain = |text: String| Value::from(text).secret_if(secret);
    if style == Style::Json {
        return vec![(name.to_owned(), plain(value.to_json_text()))];
    }
    if let Some(items) = value.as_array() {
        return match style {
            Style::Joined(separator) => {
                let texts: Vec<String> = items.iter().map(text_of).collect();
                vec![(name.to_owned(), plain(texts.join(separator.encode_utf8(&mut [0; 4]))))]
            }
            _ => items.iter().map(|item| (name.to_owned(), plain(text_of(item)))).collect(),
        };
    }
    if let Some(members) = value.as_object().filter(|_| !is_envelope(value)) {
        return match style {
            Style::DeepObject => members
                .iter()
                .map(|(key, member)| (format!("{name}[{key}]"), plain(text_of(member))))
                .collect(),
            Style::Repeated => {
                members.iter().map(|(key, member)| (key.to_string(), plain(text_of(member)))).collect()
            }
            Style::Joined(separator) => {
                let texts: Vec<String> =
                    members.iter().flat_map(|(key, member)| [key.to_string(), text_of(member)]).collect();
                vec![(name.to_owned(), plain(texts.join(separator.encode_utf8(&mut [0; 4]))))]
            }
            Style::Json => Vec::new(),
        };
    }
    vec![(name.to_owned(), plain(text_of(value)))]
}

/// The text of a value in an address, a header or a form: booleans and numbers as in JSON, files by their content.
pub(crate) fn text_of(value: &Value) -> String {
    if let Some(flag) = value.as_bool() {
        return flag.to_string();
    }
    loom_expression::envelope::text(value).into_owned()
}

fn is_envelope(value: &Value) -> bool {
    loom_expression::envelope::content_type(value).is_some()
}
