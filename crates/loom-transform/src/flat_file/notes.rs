//! The flat-file annotations of an element, with the defaults of the schema.

use crate::tree::{Element, Notes, Shape};

/// Where the delimiter of a record is in relation to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Prefix,
    Infix,
    Postfix,
}

/// The layout of a record.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) positional: bool,
    pub(super) delimiter: String,
    pub(super) order: Order,
    pub(super) escape: Option<char>,
    pub(super) tag: String,
    pub(super) suppress_trailing: bool,
}

/// The layout of a field.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) offset: usize,
    pub(super) length: Option<usize>,
    pub(super) right: bool,
    pub(super) pad: char,
    pub(super) wrap: Option<char>,
}

fn is(notes: &Notes, name: &str) -> bool {
    notes.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// Characters written literally or as hexadecimal codes, as in `0x0D 0x0A`.
fn characters(value: &str, kind: Option<&String>) -> String {
    let hex = kind.is_some_and(|kind| kind.eq_ignore_ascii_case("hex")) || value.trim().starts_with("0x");
    if !hex {
        return value.to_owned();
    }
    let codes = value.split_whitespace().filter_map(|code| {
        let digits = code.strip_prefix("0x").or_else(|| code.strip_prefix("0X")).unwrap_or(code);
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    });
    codes.collect()
}

/// A setting of the element, or its default in the schema.
fn setting(notes: &Notes, schema: &Notes, name: &str) -> Option<String> {
    let kind = notes.get(&format!("{name}_type"));
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("none")) {
        return None;
    }
    let own = notes.get(name).map(|value| characters(value, kind));
    own.or_else(|| {
        let default = schema.get(&format!("default_{name}"))?;
        Some(characters(default, schema.get(&format!("default_{name}_type"))))
    })
}

impl Record {
    pub(super) fn of(element: &Element, shape: &Shape) -> Record {
        let notes = &element.notes;
        let order = notes.get("child_order").filter(|order| !order.eq_ignore_ascii_case("default"));
        let order = order.or_else(|| shape.notes.get("default_child_order"));
        let order = match order.map(|order| order.to_ascii_lowercase()).as_deref() {
            Some("prefix") => Order::Prefix,
            Some("postfix") => Order::Postfix,
            _ => Order::Infix,
        };
        Record {
            positional: notes.get("structure").is_some_and(|kind| kind.eq_ignore_ascii_case("positional")),
            delimiter: setting(notes, &shape.notes, "child_delimiter").unwrap_or_default(),
            order,
            escape: setting(notes, &shape.notes, "escape_char").and_then(|text| text.chars().next()),
            tag: notes.get("tag_name").cloned().unwrap_or_default(),
            suppress_trailing: is(notes, "suppress_trailing_delimiters"),
        }
    }
}

impl Field {
    pub(super) fn of(notes: &Notes, shape: &Shape) -> Field {
        let number = |name| notes.get(name).and_then(|value| value.parse::<usize>().ok());
        Field {
            offset: number("pos_offset").unwrap_or_default(),
            length: number("pos_length"),
            right: notes.get("justification").is_some_and(|side| side.eq_ignore_ascii_case("right")),
            pad: setting(notes, &shape.notes, "pad_char").and_then(|pad| pad.chars().next()).unwrap_or(' '),
            wrap: setting(notes, &shape.notes, "wrap_char").and_then(|wrap| wrap.chars().next()),
        }
    }
}

/// Whether empty nodes are omitted.
pub(super) fn suppresses_empty(shape: &Shape) -> bool {
    is(&shape.notes, "suppress_empty_nodes")
}

/// Whether a positional record may lack its last fields.
pub(super) fn may_end_early(shape: &Shape) -> bool {
    is(&shape.notes, "allow_early_termination")
}
