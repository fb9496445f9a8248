//! `loom eval`: one expression, its value or its error with a caret under the place.

use std::ops::Range;

use anyhow::{Context, Result};
use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{NoNames, Object, Options, RecordedContext, Template, Value, caret};

use crate::{args::EvalArgs, console::Console, exit::Exit, files};

/// What went wrong with an expression, in the same form for parsing and evaluating.
struct Problem {
    code: loom_expression::Code,
    message: String,
    hint: Option<String>,
    span: Option<Range<usize>>,
}

/// Runs the command.
pub(crate) fn command(args: &EvalArgs, console: Console) -> Result<Exit> {
    let text = if args.expression == "-" {
        let text = String::from_utf8(files::read_stdin()?).context("standard input is not UTF-8")?;
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        line.unwrap_or(&text).to_owned()
    } else {
        args.expression.clone()
    };
    let context = context(args)?;
    match evaluate(&text, &context) {
        Ok(value) => {
            print_value(&value, args.json);
            Ok(Exit::Success)
        }
        Err((problems, exit)) => {
            if args.json {
                let list: Vec<Value> = problems.iter().map(Problem::to_json).collect();
                let errors: Object = [("errors", Value::from(list))].into_iter().collect();
                println!("{}", Value::from(errors).to_json_text());
            } else {
                for problem in &problems {
                    eprint!("{}", problem.render(&text, console.color));
                }
            }
            Ok(exit)
        }
    }
}

fn context(args: &EvalArgs) -> Result<RecordedContext> {
    let data = match &args.context {
        None => Value::NULL,
        Some(path) => files::read_json(path)?,
    };
    let now = SystemClock.now();
    let mut context = RecordedContext::from_json(&data).context("--context")?;
    if !context.has_now() {
        context = context.with_now(now);
    }
    // A seed in the data makes random values repeatable; without one they differ from call to call.
    Ok(if data.get("seed").is_some() { context } else { context.with_seed(now.ticks() as u64) })
}

fn evaluate(text: &str, context: &RecordedContext) -> Result<Value, (Vec<Problem>, Exit)> {
    let template = Template::compile_str(text, &NoNames, &Options::default()).map_err(|errors| {
        let problems = errors.into_iter().map(|error| Problem {
            code: error.code,
            message: error.message,
            hint: error.hint,
            span: Some(error.span),
        });
        (problems.collect(), Exit::Refused)
    })?;
    template.evaluate(context).map_err(|error| {
        let problem = Problem { code: error.code, message: error.message, hint: None, span: error.span };
        (vec![problem], Exit::Failure)
    })
}

/// Texts as they are, everything else as JSON. A secret is not shown, unless it is the only thing asked for in a form
/// that would show it: it never is.
fn print_value(value: &Value, json: bool) {
    if value.contains_secret() {
        println!("{}", loom_server::HIDDEN);
        return;
    }
    match value.as_str() {
        Some(text) if !json => println!("{text}"),
        _ if json => println!("{}", value.to_json_text()),
        _ => println!("{}", value.to_json_text_pretty()),
    }
}

impl Problem {
    fn render(&self, text: &str, color: bool) -> String {
        let (red, bold, reset) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let mut out = format!("{red}error[{}]{reset}{bold}: {}{reset}\n", self.code.number(), self.message);
        if let Some(span) = &self.span {
            out.push_str(&caret(text, span.clone()));
            out.push('\n');
        }
        if let Some(hint) = &self.hint {
            out.push_str("  = help: ");
            out.push_str(hint);
            out.push('\n');
        }
        out
    }

    fn to_json(&self) -> Value {
        let mut object = Object::new();
        object.insert("code", self.code.number());
        object.insert("name", self.code.name());
        object.insert("message", self.message.as_str());
        if let Some(span) = &self.span {
            object.insert("start", span.start as i64);
            object.insert("end", span.end as i64);
        }
        if let Some(hint) = &self.hint {
            object.insert("hint", hint.as_str());
        }
        object.into()
    }
}
