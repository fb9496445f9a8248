//! The core function library of XPath 1.0.

use super::{
    XPathError,
    eval::{Evaluator, Focus, Result, boolean},
    nodes::XNode,
    parser::Expr,
};

macro_rules! functions {
    ($($variant:ident $name:literal $min:literal..=$max:expr,)*) => {
        /// A function of the core library.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $($variant,)* }

        pub(super) fn find(name: &str) -> Option<Function> {
            match name { $($name => Some(Function::$variant),)* _ => None }
        }

        /// The minimum and the maximum number of arguments.
        pub(super) fn arity(function: Function) -> (usize, usize) {
            match function { $(Function::$variant => ($min, $max),)* }
        }
    };
}

functions! {
    Last "last" 0..=0,
    Position "position" 0..=0,
    Count "count" 1..=1,
    Id "id" 1..=1,
    LocalName "local-name" 0..=1,
    NamespaceUri "namespace-uri" 0..=1,
    Name "name" 0..=1,
    String "string" 0..=1,
    Concat "concat" 2..=usize::MAX,
    StartsWith "starts-with" 2..=2,
    Contains "contains" 2..=2,
    SubstringBefore "substring-before" 2..=2,
    SubstringAfter "substring-after" 2..=2,
    Substring "substring" 2..=3,
    StringLength "string-length" 0..=1,
    NormalizeSpace "normalize-space" 0..=1,
    Translate "translate" 3..=3,
    Boolean "boolean" 1..=1,
    Not "not" 1..=1,
    True "true" 0..=0,
    False "false" 0..=0,
    Lang "lang" 1..=1,
    Number "number" 0..=1,
    Sum "sum" 1..=1,
    Floor "floor" 1..=1,
    Ceiling "ceiling" 1..=1,
    Round "round" 1..=1,
}

/// How many bytes of text an expression may build for each remaining step, which limits `concat` in predicates.
const BYTES_PER_STEP: usize = 16;

pub(super) fn call<'d>(
    evaluator: &Evaluator<'_, 'd>,
    function: Function,
    arguments: &[Expr],
    focus: &Focus<'d>,
) -> std::result::Result<Result<'d>, XPathError> {
    let values = arguments
        .iter()
        .map(|argument| evaluator.evaluate(argument, focus))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    // The argument as a string, or the string-value of the context node if there is no argument.
    let text = |at: usize| match values.get(at) {
        Some(value) => evaluator.text(value),
        None => evaluator.node_text(&focus.node),
    };
    let number = |at: usize| match values.get(at) {
        Some(value) => evaluator.number(value),
        None => Ok(to_number(&text(at)?)),
    };
    // The first node of the argument, or the context node if there is no argument.
    let node = || match values.first() {
        None => Ok(Some(focus.node)),
        Some(Result::Nodes(nodes)) => Ok(nodes.first().copied()),
        Some(_) => Err(not_nodes()),
    };
    let nodes = || match values.first() {
        Some(Result::Nodes(nodes)) => Ok(nodes),
        _ => Err(not_nodes()),
    };
    Ok(match function {
        Function::Last => Result::Number(focus.size as f64),
        Function::Position => Result::Number(focus.position as f64),
        Function::Count => Result::Number(nodes()?.len() as f64),
        // Without a schema, no attribute is known to be an ID.
        Function::Id => Result::Nodes(Vec::new()),
        Function::LocalName => {
            Result::Text(node()?.map(|node| node.local_name().to_owned()).unwrap_or_default())
        }
        Function::NamespaceUri => {
            Result::Text(node()?.map(|node| node.namespace().to_owned()).unwrap_or_default())
        }
        Function::Name => Result::Text(node()?.map(|node| node.name()).unwrap_or_default()),
        Function::String => Result::Text(text(0)?),
        Function::Concat => {
            let mut joined = String::new();
            for at in 0..values.len() {
                let part = text(at)?;
                evaluator.pay(1 + part.len() / BYTES_PER_STEP)?;
                joined.push_str(&part);
            }
            Result::Text(joined)
        }
        Function::StartsWith => Result::Boolean(text(0)?.starts_with(&text(1)?)),
        Function::Contains => Result::Boolean(text(0)?.contains(&text(1)?)),
        Function::SubstringBefore => {
            let (whole, mark) = (text(0)?, text(1)?);
            Result::Text(whole.find(&mark).map(|at| whole[..at].to_owned()).unwrap_or_default())
        }
        Function::SubstringAfter => {
            let (whole, mark) = (text(0)?, text(1)?);
            Result::Text(whole.find(&mark).map(|at| whole[at + mark.len()..].to_owned()).unwrap_or_default())
        }
        Function::Substring => {
            let start = round(number(1)?);
            let end = if values.len() > 2 { start + round(number(2)?) } else { f64::INFINITY };
            let whole = text(0)?;
            let places = whole.chars().zip(1_u32..);
            let kept = places.filter(|&(_, place)| f64::from(place) >= start && f64::from(place) < end);
            Result::Text(kept.map(|(c, _)| c).collect())
        }
        Function::StringLength => Result::Number(text(0)?.chars().count() as f64),
        Function::NormalizeSpace => {
            Result::Text(text(0)?.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
        }
        Function::Translate => {
            let (whole, from, to) = (text(0)?, text(1)?, text(2)?);
            evaluator.pay(whole.len().saturating_mul(1 + from.len() / BYTES_PER_STEP) / BYTES_PER_STEP)?;
            let translated = whole.chars().filter_map(|c| match from.chars().position(|from| from == c) {
                Some(at) => to.chars().nth(at),
                None => Some(c),
            });
            Result::Text(translated.collect())
        }
        Function::Boolean => Result::Boolean(boolean(&values[0])),
        Function::Not => Result::Boolean(!boolean(&values[0])),
        Function::True => Result::Boolean(true),
        Function::False => Result::Boolean(false),
        Function::Lang => Result::Boolean(is_in_language(focus.node, &text(0)?)),
        Function::Number => Result::Number(number(0)?),
        Function::Sum => {
            let mut sum = 0.0;
            for node in nodes()? {
                sum += to_number(&evaluator.node_text(node)?);
            }
            Result::Number(sum)
        }
        Function::Floor => Result::Number(number(0)?.floor()),
        Function::Ceiling => Result::Number(number(0)?.ceil()),
        Function::Round => Result::Number(round(number(0)?)),
    })
}

fn not_nodes() -> XPathError {
    XPathError::Invalid("the argument must be a node-set".to_owned())
}

/// Rounds to the nearest whole number, halves towards positive infinity.
fn round(number: f64) -> f64 {
    if number.fract() == 0.0 { number } else { (number + 0.5).floor() }
}

fn is_in_language(node: XNode<'_>, wanted: &str) -> bool {
    const XML: &str = "http://www.w3.org/XML/1998/namespace";
    let elements = std::iter::successors(Some(node), XNode::parent);
    let language = elements.into_iter().find_map(|node| match node {
        XNode::Node(node) => node.attribute((XML, "lang")),
        XNode::Attribute(..) => None,
    });
    language.is_some_and(|language| {
        let head = language.get(..wanted.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(wanted))
            && matches!(language.as_bytes().get(wanted.len()), None | Some(b'-'))
    })
}

/// Converts a string to a number: an optional minus sign, digits, and a decimal point. Anything else is NaN (section
/// 4.4).
pub(super) fn to_number(text: &str) -> f64 {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && digits.bytes().any(|byte| byte.is_ascii_digit());
    if plain { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

/// Converts a number to a string, which never has an exponent (section 4.2).
pub(super) fn number_text(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else if number == 0.0 {
        "0".to_owned()
    } else {
        number.to_string()
    }
}
