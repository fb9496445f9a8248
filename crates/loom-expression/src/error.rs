//! Errors of compilation and evaluation: stable codes, spans, and messages that name the function, property and types
//! involved.

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

            /// The number of the code, such as `E101`.
            pub fn number(self) -> &'static str {
                match self { $(Self::$variant => $number,)* }
            }

            /// The name of the code, such as `unknown-function`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The meaning of the code, in one sentence.
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
    /// A syntax error in an expression.
    Syntax = "E103" "syntax",
    /// A string literal without its closing quote.
    UnterminatedString = "E104" "unterminated-string",
    /// An `@{` without a closing `}`.
    UnterminatedSegment = "E105" "unterminated-segment",
    /// A number literal that is malformed or out of range.
    BadNumber = "E106" "bad-number",
    /// An expression that is longer than the limit.
    TooLong = "E107" "too-long",
    /// Calls or indexes that nest deeper than the limit.
    TooDeep = "E108" "too-deep",
    /// A condition that is not an expression or a valid condition object.
    BadCondition = "E109" "bad-condition",
    /// An argument of a type that the function does not accept.
    WrongType = "E201" "wrong-type",
    /// An argument of the right type whose value the function does not accept.
    BadArgument = "E202" "bad-argument",
    /// A property that the object does not have.
    NoProperty = "E203" "no-property",
    /// An array index out of range.
    OutOfRange = "E204" "out-of-range",
    /// Access to a property or index of null.
    NullTarget = "E205" "null-target",
    /// Access to a property or index of a value that does not support it.
    NoAccess = "E206" "no-access",
    /// A parameter, variable, action or loop that does not exist.
    UnknownName = "E207" "unknown-name",
    /// An action that has not run.
    NotRun = "E208" "not-run",
    /// A function that is not available where it is called.
    NotAvailable = "E209" "not-available",
    /// A name that refers to more than one record.
    Ambiguous = "E210" "ambiguous",
    /// A string that cannot be converted to the requested type.
    Conversion = "E211" "conversion",
    /// A result outside the range of its number type.
    Overflow = "E212" "overflow",
    /// A division by zero.
    DivisionByZero = "E213" "division-by-zero",
    /// A result that exceeds a limit.
    LimitExceeded = "E214" "limit-exceeded",
    /// A condition that does not evaluate to a boolean.
    NotBoolean = "E215" "not-boolean",
    /// A failure of an external source, such as a secret store.
    Outside = "E216" "outside",
    /// An evaluation that takes more steps than its budget allows.
    StepsExceeded = "E217" "steps-exceeded",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number(), self.name())
    }
}

/// An error in a template. Compilation reports all errors at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The stable code.
    pub code: Code,
    /// What is wrong, as a sentence.
    pub message: String,
    /// How to fix it, if known.
    pub hint: Option<String>,
    /// The JSON pointer of the string within the compiled value; empty for the value itself.
    pub pointer: String,
    /// Whether the string is the name of the property at the pointer rather than its value.
    pub in_name: bool,
    /// The range of the error in that string, in bytes of the decoded text.
    pub span: Range<usize>,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}

/// The failure of an evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The stable code.
    pub code: Code,
    /// What went wrong. Never contains a secret value.
    pub message: String,
    /// The range of the failed expression in its string, in bytes of the decoded text.
    pub span: Option<Range<usize>>,
    /// The JSON pointer of that string within the compiled value; empty for the value itself.
    pub pointer: Option<String>,
    /// Whether that string is the name of the property at the pointer rather than its value.
    pub in_name: bool,
}

impl Error {
    /// An error without a span and pointer.
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

/// The failure of an internal function, boxed to keep results small.
pub(crate) type Failure = Box<Error>;

/// Shows a range of a text: the line that contains it, with carets under the range. The result is plain text without
/// colours.
///
/// A tab is shown as one space, and a control character as a placeholder. A long line is shortened to the part around the
/// range.
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
