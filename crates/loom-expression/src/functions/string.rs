//! String functions. Lengths and indexes count UTF-16 code units.

use super::{ANY, Arguments, Body, Category, Cost, Function, Lazy, Outcome, ex};
use crate::{
    Value, ValueRef, envelope,
    error::Failure,
    number::{Culture, format_number},
    utf16,
    value::{TextBuilder, fold_char, fold_text},
};

const fn string(
    name: &'static str,
    arity: (usize, usize),
    body: fn(&mut Arguments<'_>) -> Outcome,
) -> Function {
    Function::new(Category::String, name, arity, Body::Plain(body))
}

#[rustfmt::skip]
pub(super) static FUNCTIONS: &[Function] = &[
    Function::new(Category::String, "concat", (1, ANY), Body::Lazy(Lazy::Concat)).docs(
        "concat(value: any, …) → string",
        "Converts the values to strings and joins them.",
    ).examples(&[ex("@concat('Hello', 'World')", r#""HelloWorld""#), ex("@concat('a', 1, true, null)", r#""a1True""#), ex("@concat(createArray('a'))", r#""[\"a\"]""#)]),
    string("endsWith", (2, 2), ends_with).docs(
        "endsWith(text: string, search: string) → boolean",
        "Checks whether a string ends with another, ignoring case. Every string ends with the empty string.",
    ).examples(&[ex("@endsWith('hello world', 'WORLD')", "true"), ex("@endsWith('hello', 'hell')", "false")]),
    string("startsWith", (2, 2), starts_with).docs(
        "startsWith(text: string, search: string) → boolean",
        "Checks whether a string starts with another, ignoring case. Every string starts with the empty string.",
    ).examples(&[ex("@startsWith('hello world', 'HELLO')", "true"), ex("@startsWith('hello', 'greet')", "false")]),
    string("indexOf", (2, 2), index_of).docs(
        "indexOf(text: string, search: string) → integer",
        "Returns the index of the first occurrence of a substring, ignoring case: -1 if there is none, 0 if the substring is empty.",
    ).examples(&[ex("@indexOf('hello world', 'WORLD')", "6"), ex("@indexOf('hello', 'x')", "-1")]),
    string("lastIndexOf", (2, 2), last_index_of).docs(
        "lastIndexOf(text: string, search: string) → integer",
        "Returns the index of the last occurrence of a substring, ignoring case, or -1 if there is none. For an empty substring, returns the index of the last character, or 0 if both are empty.",
    ).examples(&[ex("@lastIndexOf('hello world hello', 'hello')", "12"), ex("@lastIndexOf('abc', '')", "2"), ex("@lastIndexOf('', 'a')", "-1")]),
    string("nthIndexOf", (3, 3), nth_index_of).docs(
        "nthIndexOf(text: string, search: string, n: integer) → integer",
        "Returns the index of the n-th occurrence of a substring, ignoring case, or -1 if there are fewer. A negative n counts from the end.",
    ).examples(&[ex("@nthIndexOf('123456789123465789', '1', 2)", "9"), ex("@nthIndexOf('a-b-c-d', '-', -3)", "1"), ex("@nthIndexOf('a', 'b', 1)", "-1")]),
    string("length", (1, 1), length).cost(Cost::Flat).docs(
        "length(collection: string | array) → integer",
        "Returns the number of UTF-16 code units in a string or of items in an array.",
    ).examples(&[ex("@length('abcd')", "4"), ex("@length(createArray(0, 1))", "2"), ex("@length(json('{}'))", "error")]),
    string("replace", (3, 3), replace).docs(
        "replace(text: string, old: string, new: string) → string",
        "Replaces every occurrence of a substring, case-sensitive. The substring to replace must not be empty.",
    ).examples(&[ex("@replace('the old string', 'old', 'new')", r#""the new string""#), ex("@replace('aaaa', 'aa', 'a')", r#""aa""#)]),
    string("split", (2, 2), split).docs(
        "split(text: string, delimiter: string) → array of strings",
        "Splits a string at a delimiter. Empty parts are kept. If the delimiter is empty or does not occur, the result has one item.",
    ).examples(&[ex("@split('a_b_c', '_')", r#"["a","b","c"]"#), ex("@split('a,,b', ',')", r#"["a","","b"]"#)]),
    string("slice", (2, 3), slice).docs(
        "slice(text: string, start: integer, end?: integer) → string",
        "Returns the part of a string from the start index up to, but not including, the end index. Negative indexes count from the end; indexes outside the string are not an error.",
    ).examples(&[ex("@slice('Hello World', 2, 5)", r#""llo""#), ex("@slice('Hello World', -2)", r#""ld""#), ex("@slice('Hello', 30)", r#""""#)]),
    string("substring", (2, 3), substring).docs(
        "substring(text: string, start: integer, length?: integer) → string",
        "Returns the given number of characters (UTF-16 code units) from the start index. The start and the end must be within the string.",
    ).examples(&[ex("@substring('hello world', 6, 5)", r#""world""#), ex("@substring('hello', 3)", r#""lo""#), ex("@substring('hello', 10)", "error")]),
    string("toLower", (1, 1), to_lower).docs(
        "toLower(text: string) → string",
        "Converts a string to lower case.",
    ).examples(&[ex("@toLower('Hello World')", r#""hello world""#)]),
    string("toUpper", (1, 1), to_upper).docs(
        "toUpper(text: string) → string",
        "Converts a string to upper case. Characters without a single upper-case character stay unchanged.",
    ).examples(&[ex("@toUpper('Hello World')", r#""HELLO WORLD""#), ex("@toUpper('ß')", r#""ß""#)]),
    string("trim", (1, 1), trim).docs(
        "trim(text: string) → string",
        "Removes white space from both ends of a string.",
    ).examples(&[ex("@trim(' Hello World  ')", r#""Hello World""#)]),
    string("trimByteOrderMark", (1, 1), trim_byte_order_mark).docs(
        "trimByteOrderMark(value: any) → string",
        "Converts the value to a string and removes a byte order mark at its start.",
    ).examples(&[ex("@trimByteOrderMark('abc')", r#""abc""#)]),
    string("utf8Length", (1, 1), |arguments| Ok(count(arguments.str(0)?.len()))).docs(
        "utf8Length(text: string) → integer",
        "Returns the length of a string in bytes of UTF-8.",
    ).examples(&[ex("@utf8Length('é')", "2")]),
    string("utf16Length", (1, 1), |arguments| Ok(count(2 * utf16::length(arguments.str(0)?)))).docs(
        "utf16Length(text: string) → integer",
        "Returns the length of a string in bytes of UTF-16.",
    ).examples(&[ex("@utf16Length('ab')", "4")]),
    string("guid", (0, 1), guid).impure().docs(
        "guid(format?: string) → string",
        "Creates a random GUID. Formats: D (default) with hyphens, N digits only, B in braces, P in parentheses, X as hexadecimal groups.",
    ).examples(&[ex("@length(guid())", "36"), ex("@length(guid('N'))", "32"), ex("@guid('Q')", "error")]),
    string("formatNumber", (2, 3), format).docs(
        "formatNumber(number: number, format: string, locale?: string) → string",
        "Formats a number with a standard format (such as C2, N0 or X4) or a custom format (such as #,##0.00), by the rules of the locale. The default locale is en-us.",
    ).examples(&[ex("@formatNumber(1234567890, '#,##0.00', 'is-IS')", r#""1.234.567.890,00""#), ex("@formatNumber(17.35, 'C2')", r#""$17.35""#), ex("@formatNumber(5, 'D3')", r#""005""#)]),
];

fn count(count: usize) -> Value {
    Value::from(i64::try_from(count).unwrap_or(i64::MAX))
}

fn ends_with(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, search) = (arguments.str(0)?, arguments.str(1)?);
    Ok(Value::from(fold_text(text).ends_with(&fold_text(search))))
}

fn starts_with(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, search) = (arguments.str(0)?, arguments.str(1)?);
    if text.is_ascii() && search.is_ascii() {
        let head = text.as_bytes().get(..search.len());
        return Ok(Value::from(head.is_some_and(|head| head.eq_ignore_ascii_case(search.as_bytes()))));
    }
    Ok(Value::from(fold_text(text).starts_with(&fold_text(search))))
}

/// A byte offset in folded text as an index in code units, whose number folding never changes; -1 for `None`.
fn place(folded: &str, at: Option<usize>) -> Value {
    at.map_or(Value::from(-1), |at| count(utf16::length(&folded[..at])))
}

fn index_of(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, search) = (fold_text(arguments.str(0)?), fold_text(arguments.str(1)?));
    Ok(place(&text, text.find(&search)))
}

fn last_index_of(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, search) = (fold_text(arguments.str(0)?), fold_text(arguments.str(1)?));
    Ok(match (text.is_empty(), search.is_empty()) {
        (true, true) => Value::from(0),
        (true, false) => Value::from(-1),
        (false, true) => count(utf16::length(&text) - 1),
        (false, false) => place(&text, text.rfind(&search)),
    })
}

fn nth_index_of(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, search) = (fold_text(arguments.str(0)?), fold_text(arguments.str(1)?));
    let n = arguments.int(2)?;
    if n == 0 || search.is_empty() {
        return Ok(Value::from(if search.is_empty() && n != 0 { 0 } else { -1 }));
    }
    let nth = usize::try_from(n.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let found =
        if n > 0 { text.match_indices(&search).nth(nth) } else { text.rmatch_indices(&search).nth(nth) };
    Ok(place(&text, found.map(|(at, _)| at)))
}

fn length(arguments: &mut Arguments<'_>) -> Outcome {
    match arguments.get(0).as_ref() {
        ValueRef::String(text) => {
            arguments.budget.pay_text(text.len())?;
            Ok(count(utf16::length(text)))
        }
        ValueRef::Array(items) => Ok(count(items.len())),
        _ => Err(arguments.wrong_type(0, "a string or an array")),
    }
}

fn replace(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, old, new) = (arguments.str(0)?, arguments.str(1)?, arguments.str(2)?);
    if old.is_empty() {
        return Err(arguments.bad(1, "the string to replace must not be empty"));
    }
    if new.len() > old.len() {
        let found = text.matches(old).count();
        let bytes = text.len().saturating_add(found.saturating_mul(new.len() - old.len()));
        arguments.check_text_bytes(bytes)?;
        arguments.budget.pay_text(bytes)?;
    }
    let whole = arguments.get(0);
    if whole.halves().is_empty() && arguments.get(2).halves().is_empty() {
        return Ok(Value::from(text.replace(old, new)));
    }
    let mut replaced = TextBuilder::default();
    let mut from = 0;
    for at in found(whole, arguments.get(1)) {
        replaced.push_part(whole, from..at);
        replaced.push_value(arguments.get(2));
        from = at + old.len();
    }
    replaced.push_part(whole, from..text.len());
    Ok(replaced.finish())
}

fn split(arguments: &mut Arguments<'_>) -> Outcome {
    let (text, delimiter) = (arguments.str(0)?, arguments.str(1)?);
    if delimiter.is_empty() {
        return Ok(Value::from(vec![arguments.get(0).clone()]));
    }
    let pieces = text.matches(delimiter).count();
    arguments.check_items(pieces)?;
    arguments.budget.pay(pieces as u64)?;
    let whole = arguments.get(0);
    if whole.halves().is_empty() {
        return Ok(text.split(delimiter).collect());
    }
    let mut pieces = Vec::with_capacity(pieces + 1);
    let mut from = 0;
    for at in found(whole, arguments.get(1)) {
        pieces.push(whole.text_part(from..at));
        from = at + delimiter.len();
    }
    pieces.push(whole.text_part(from..text.len()));
    Ok(Value::from(pieces))
}

/// The byte offsets at which a string occurs in another, unpaired surrogates included.
fn found(whole: &Value, wanted: &Value) -> Vec<usize> {
    let wanted_text = wanted.as_str().unwrap_or_default();
    let places = whole.as_str().unwrap_or_default().match_indices(wanted_text).map(|(at, _)| at);
    places.filter(|&at| whole.text_part(at..at + wanted_text.len()) == *wanted).collect()
}

/// The string with each character mapped; unpaired surrogates stay unchanged.
fn mapped(value: &Value, map: impl Fn(char) -> char) -> Value {
    let plain = value.as_str().unwrap_or_default();
    if value.halves().is_empty() {
        return Value::from(plain.chars().map(map).collect::<String>());
    }
    let mut text = TextBuilder::default();
    for (at, c) in plain.char_indices() {
        match value.halves().binary_search_by_key(&at, |(place, _)| *place) {
            Ok(half) => text.push_half(value.halves()[half].1),
            Err(_) => text.push(map(c)),
        }
    }
    text.finish()
}

fn trim(arguments: &mut Arguments<'_>) -> Outcome {
    let text = arguments.str(0)?;
    let start = text.len() - text.trim_start().len();
    Ok(arguments.get(0).text_part(start..start + text.trim().len()))
}

fn slice(arguments: &mut Arguments<'_>) -> Outcome {
    let text = arguments.str(0)?;
    let length = utf16::length(text);
    // Negative indexes count from the end; an index outside the string is clamped to its nearer end.
    let place = |at: i64| {
        let size = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
        if at < 0 { length.saturating_sub(size) } else { size.min(length) }
    };
    let start = place(arguments.int(1)?);
    let end = if arguments.len() > 2 { place(arguments.int(2)?) } else { length };
    Ok(if end <= start { Value::from("") } else { utf16::slice(arguments.get(0), start, end) })
}

fn substring(arguments: &mut Arguments<'_>) -> Outcome {
    let text = arguments.str(0)?;
    let length = utf16::length(text);
    let start = usize::try_from(arguments.int(1)?).ok().filter(|&start| start < length).ok_or_else(|| {
        arguments.bad(1, &format!("the start must be at least 0 and less than the length {length}"))
    })?;
    let end = match arguments.opt(2) {
        None => length,
        Some(_) => usize::try_from(arguments.int(2)?)
            .ok()
            .and_then(|count| start.checked_add(count))
            .filter(|&end| end <= length)
            .ok_or_else(|| {
                arguments
                    .bad(2, &format!("start plus length must be at most the length of the string, {length}"))
            })?,
    };
    Ok(utf16::slice(arguments.get(0), start, end))
}

/// Character by character, as the invariant culture does: no rule depends on the neighbouring characters.
fn to_lower(arguments: &mut Arguments<'_>) -> Outcome {
    let lower = |c: char| {
        let mut lower = c.to_lowercase();
        match (lower.next(), lower.next()) {
            (Some(lower), None) => lower,
            _ => c,
        }
    };
    arguments.str(0)?;
    Ok(mapped(arguments.get(0), lower))
}

fn to_upper(arguments: &mut Arguments<'_>) -> Outcome {
    arguments.str(0)?;
    Ok(mapped(arguments.get(0), fold_char))
}

#[expect(clippy::unnecessary_wraps, reason = "all bodies have one signature")]
fn trim_byte_order_mark(arguments: &mut Arguments<'_>) -> Outcome {
    let text = envelope::text(arguments.get(0));
    Ok(Value::from(text.strip_prefix('\u{feff}').unwrap_or(&text)))
}

fn guid(arguments: &mut Arguments<'_>) -> Outcome {
    // Version 4, variant 1 (RFC 9562).
    let id = (arguments.context.guid() & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let digits = format!("{id:032x}");
    let hyphens = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-");
    let text = match arguments.opt_str(0)?.unwrap_or("D") {
        "" | "D" | "d" => hyphens,
        "N" | "n" => digits,
        "B" | "b" => format!("{{{hyphens}}}"),
        "P" | "p" => format!("({hyphens})"),
        "X" | "x" => {
            let bytes: Vec<String> =
                (16..32).step_by(2).map(|at| format!("0x{}", &digits[at..at + 2])).collect();
            format!(
                "{{0x{},0x{},0x{},{{{}}}}}",
                &digits[..8],
                &digits[8..12],
                &digits[12..16],
                bytes.join(",")
            )
        }
        _ => return Err(arguments.bad(0, "unknown format; use D, N, B, P or X")),
    };
    Ok(Value::from(text))
}

fn format(arguments: &mut Arguments<'_>) -> Outcome {
    if !arguments.get(0).is_number() {
        return Err(arguments.wrong_type(0, "a number"));
    }
    let culture = culture(arguments, 2)?;
    let text = format_number(arguments.get(0), arguments.str(1)?, culture).ok_or_else(|| {
        arguments.bad(1, "unknown number format, or one that this type of number does not have")
    })?;
    Ok(Value::from(text))
}

/// The culture that an argument names, or en-US if the argument is missing or empty.
pub(super) fn culture(arguments: &Arguments<'_>, at: usize) -> Result<&'static Culture, Failure> {
    match arguments.opt_str(at)? {
        None | Some("") => Ok(Culture::EN_US),
        Some(name) => Culture::find(name)
            .ok_or_else(|| arguments.bad(at, "unknown locale; use a name such as 'en-US' or 'de-DE'")),
    }
}
