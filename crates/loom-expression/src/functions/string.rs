//! Text. Lengths and places count UTF-16 code units.

use super::{ANY, Arguments, Body, Category, Function, Outcome, ex};
use crate::{Value, envelope};

const fn string(name: &'static str, arity: (usize, usize), body: Body) -> Function {
    Function::new(Category::String, name, arity, body)
}

pub(super) static FUNCTIONS: &[Function] = &[string("concat", (1, ANY), Body::Plain(concat))
    .docs("concat(value: any, …) → string", "The values as text, joined.")
    .examples(&[
        ex("@concat('Hello', 'World')", "\"HelloWorld\""),
        ex("@concat('a', 1, true, null)", "\"a1True\""),
    ])];

fn concat(arguments: &mut Arguments<'_>) -> Outcome {
    let known = arguments.values.iter().map(|value| value.as_str().map_or(8, str::len)).sum();
    arguments.check_text_bytes(known)?;
    let mut text = String::with_capacity(known);
    for value in arguments.values.iter() {
        envelope::push_text(value, &mut text);
        arguments.check_text_bytes(text.len())?;
    }
    Ok(Value::from(text))
}
