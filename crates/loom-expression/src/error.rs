//! What can go wrong, with stable codes, places, and messages that name the function, property and types involved.

use std::{fmt, ops::Range};

use crate::visible::stand_in;

macro_rules! codes {
    ($(#[doc = $doc:literal] $variant:ident = $number:literal $name:literal,)*) => {
        /// A stable code: its number is never reused for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $(#[doc = $doc] $variant,)* }

        impl Code {
            /// All codes, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The number, such as `E101`.
            pub fn number(self) -> &'static str {
                match self { $(Self::$variant => $number,)* }
            }

            /// The name, such as `unknown-function`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it stands for, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $doc.trim_ascii(),)* }
            }
        }
    };
}

codes! {
    /// No function has this name.
    UnknownFunction = "E101" "unknown-function",
    /// Too few or too many arguments.
    ArgumentCount = "E102" "argument-count",
    /// Text that the grammar does not allow here.
    Syntax = "E103" "syntax",
    /// A quoted literal without its closing quote.
    UnterminatedString = "E104" "unterminated-string",
    /// An `@{` without its `}`.
    UnterminatedSegment = "E105" "unterminated-segment",
    /// A number that is malformed or out of range.
    BadNumber = "E106" "bad-number",
    /// An expression longer than the limit.
    TooLong = "E107" "too-long",
    /// Calls or indexers nested deeper than the limit.
    TooDeep = "E108" "too-deep",
    /// A condition object that is none.
    BadCondition = "E109" "bad-condition",
    /// A value of a kind that the function does not take.
    WrongType = "E201" "wrong-type",
    /// A value of the right kind that the function cannot use.
    BadArgument = "E202" "bad-argument",
    /// A property that the object does not have.
    NoProperty = "E203" "no-property",
    /// An index outside the array.
    OutOfRange = "E204" "out-of-range",
    /// A property or index of null.
    NullTarget = "E205" "null-target",
    /// A property or index of something that has none of the kind.
    NoAccess = "E206" "no-access",
    /// A parameter, variable, action or loop that does not exist.
    UnknownName = "E207" "unknown-name",
    /// An action that has not run.
    NotRun = "E208" "not-run",
    /// Something that is not available in this place.
    NotAvailable = "E209" "not-available",
    /// A name that stands for more than one record here.
    Ambiguous = "E210" "ambiguous",
    /// A text that is not what it is converted to.
    Conversion = "E211" "conversion",
    /// A number outside the range of its kind.
    Overflow = "E212" "overflow",
    /// A division by zero.
    DivisionByZero = "E213" "division-by-zero",
    /// A result larger than the limits allow.
    LimitExceeded = "E214" "limit-exceeded",
    /// A condition whose value is not a boolean.
    NotBoolean = "E215" "not-boolean",
    /// Something outside that was asked and failed.
    Outside = "E216" "outside",
    /// An evaluation that takes more steps than its budget has.
    StepsExceeded = "E217" "steps-exceeded",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

/// Why a template cannot be compiled. Compilation reports all of them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The stable code.
    pub code: Code,
    /// What is wrong, in a sentence.
    pub message: String,
    /// How to repair it, where that can be told.
    pub hint: Option<String>,
    /// JSON pointer of the string within the compiled value; empty for the value itself.
    pub pointer: String,
    /// Whether the string is the name of the property at the pointer, not its value.
    pub in_name: bool,
    /// The place within that string, in bytes of the decoded text.
    pub span: Range<usize>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// Why an evaluation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What went wrong. Never contains a secret value.
    pub message: String,
    /// The place within the string that failed, in bytes of the decoded text.
    pub span: Option<Range<usize>>,
    /// JSON pointer of that string within the compiled value; empty for the value itself.
    pub pointer: Option<String>,
    /// Whether that string is the name of the property at the pointer, not its value.
    pub in_name: bool,
}

impl Error {
    /// An error that has no place yet.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { code, message: message.into(), span: None, pointer: None, in_name: false })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How evaluation fails on the inside; boxed, so that the way of success stays narrow.
pub(crate) type Failure = Box<Error>;

/// Shows a place in a text: the line it is in, and carets under it. Plain text, no colours.
///
/// Tabs become one space, and characters that a terminal would obey a stand-in. Of a long line only the part around the place is shown.
///
/// ```
/// let shown = loom_expression::caret("@lenght(1)", 1..7);
/// assert_eq!(shown, "  @lenght(1)\n   ^^^^^^");
/// ```
pub fn caret(source: &str, span: Range<usize>) -> String {
    const AROUND_CHARS: usize = 60;
    let floor =
        |at: usize| (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0);
    let (start, end) = (floor(span.start), floor(span.end.max(span.start)));
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
    let before: Vec<char> = source[line_start..start].chars().collect();
    let marked = source[start..end.min(line_end).max(start)].chars().count().clamp(1, AROUND_CHARS);
    let skipped = before.len().saturating_sub(AROUND_CHARS);
    let lead = if skipped > 0 { "…" } else { "" };
    let shown: String = before[skipped..]
        .iter()
        .copied()
        .chain(source[start..line_end].chars().take(marked + AROUND_CHARS))
        .map(stand_in)
        .collect();
    let pad = " ".repeat(before.len() - skipped + lead.chars().count());
    format!("  {lead}{shown}\n  {pad}{}", "^".repeat(marked))
}
