//! `loom eval`: evaluates one expression and prints its value, or its error with a caret under the position.

use std::{ops::Range, path::Path};

use anyhow::{Context, Result, bail};
use loom_definition::{diagnostic::did_you_mean, model::ValueType};
use loom_engine::{clock::SystemClock, ports::Clock};
use loom_expression::{
    Code, NoNames, Object, Options, RecordedContext, Template, Value, Visible, caret, visible,
};

use crate::{
    args::EvalArgs,
    console::{self, Console},
    exit::Exit,
    files,
};

/// An error of parsing or evaluation, in the same form for both.
struct Problem {
    code: loom_expression::Code,
    message: String,
    hint: Option<String>,
    span: Option<Range<usize>>,
}

/// Runs the command.
pub(crate) fn command(args: &EvalArgs, console: Console) -> Result<Exit> {
    let text = if args.expression == "-" {
        let text = String::from_utf8(files::read_stdin()?).context("standard input is not valid UTF-8")?;
        let line = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text));
        line.unwrap_or(&text).to_owned()
    } else {
        args.expression.clone()
    };
    let context = context(args)?;
    match evaluate(&text, &context) {
        Ok(value) => {
            print_value(&value, args.json);
            if let Some(meant) = without_its_sign(&text) {
                eprintln!("loom: this is a string, not an expression; did you mean `{meant}`?");
            }
            Ok(Exit::Success)
        }
        Err((mut problems, exit)) => {
            for problem in problems.iter_mut().filter(|problem| problem.refers_to_nothing()) {
                let reads_secret = problem.is_about(&text, "secret(");
                problem
                    .hint
                    .get_or_insert_with(|| if reads_secret { NO_SECRETS } else { hint(args) }.to_owned());
            }
            if args.json {
                let list: Vec<Value> = problems.iter().map(Problem::to_json).collect();
                let errors: Object = [("errors", Value::from(list))].into_iter().collect();
                console::json(&Value::from(errors).to_json_text());
            } else {
                for problem in &problems {
                    console::note_styled(&problem.render(&text, console.color));
                }
            }
            Ok(exit)
        }
    }
}

/// The context of the expression. Values from options override those from the file.
fn context(args: &EvalArgs) -> Result<RecordedContext> {
    let data = match &args.context {
        None => Object::new(),
        Some(text) => {
            let plain = !text.starts_with(['@', '{', '[']) && text != "-";
            let value = if plain {
                files::read_json(Path::new(text))?
            } else {
                files::read_argument("--context", text)?
            };
            value.into_object().context("--context must be a JSON object")?
        }
    };
    if let Some(name) = data.keys().find(|name| !RecordedContext::MEMBERS.contains(&&***name)) {
        let hint = did_you_mean(name, RecordedContext::MEMBERS.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("expected one of {}", RecordedContext::MEMBERS.join(", ")));
        bail!("--context: unknown property `{name}`; {hint}");
    }
    let mut data = data;
    for (member, option, given) in
        [("parameters", "--param", &args.parameters), ("variables", "--variable", &args.variables)]
    {
        for argument in given {
            let (name, text) = named(option, argument)?;
            let value = ValueType::Any.read_text(text).unwrap_or_else(|_| Value::from(text));
            put(&mut data, member, name, value);
        }
    }
    for argument in &args.outputs {
        let (name, text) = named("--outputs", argument)?;
        let mut record = Object::new();
        record.insert("name", name);
        record.insert("status", "Succeeded");
        record.insert("outputs", files::read_argument("--outputs", text)?);
        put(&mut data, "actions", name, record.into());
    }
    if let Some(body) = &args.body {
        let mut outputs = Object::new();
        outputs.insert("body", files::read_argument("--body", body)?);
        put(&mut data, "trigger", "outputs", outputs.into());
    }
    let data = Value::from(data);
    let now = SystemClock.now();
    let mut context = RecordedContext::from_json(&data).context("--context")?;
    if !context.has_now() {
        context = context.with_now(now);
    }
    // With a seed in the context, random values are repeatable; without one they differ from call to call.
    Ok(if data.get("seed").is_some() { context } else { context.with_seed(now.ticks() as u64) })
}

fn named<'a>(option: &str, argument: &'a str) -> Result<(&'a str, &'a str)> {
    argument.split_once('=').with_context(|| format!("{option} must be NAME=VALUE (got `{argument}`)"))
}

/// Inserts a value into an object of the context.
fn put(data: &mut Object, member: &str, name: &str, value: Value) {
    let mut map = data.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
    map.insert(name, value);
    data.insert(member, map);
}

/// The expression that was probably meant by a string that looks like a function call without its `@`.
fn without_its_sign(text: &str) -> Option<String> {
    let call = !text.contains('@') && text.trim_end().ends_with(')');
    let meant = format!("@{}", text.trim());
    let compiles = || Template::compile_str(&meant, &NoNames, &Options::default()).is_ok();
    (call && compiles()).then_some(meant)
}

/// The hint for an expression that reads a secret.
const NO_SECRETS: &str =
    "`loom eval` has no secrets; put a parameter in its place, or evaluate it in a workflow with `loom run`";

/// A hint for an expression that refers to something that does not exist.
fn hint(args: &EvalArgs) -> &'static str {
    if args.context.is_some() {
        "the context has no such entry"
    } else {
        "provide it with --param, --variable, --body, --outputs or --context"
    }
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
        // Compilation has already found a call with a wrong number of arguments, and knows the right signature.
        let seen = template.warnings().iter().find(|seen| Some(&seen.span) == error.span.as_ref());
        let hint = seen.and_then(|seen| seen.hint.clone());
        let problem = Problem { code: error.code, message: error.message, hint, span: error.span };
        (vec![problem], Exit::Failure)
    })
}

/// Prints strings as they are and everything else as JSON. A value with a secret is redacted.
fn print_value(value: &Value, json: bool) {
    if value.contains_secret() {
        println!("{}", loom_server::HIDDEN);
        return;
    }
    match value.as_str() {
        Some(text) if !json => console::value(text, "\n"),
        _ if json => console::json(&value.to_json_text()),
        _ => console::json(&value.to_json_text_pretty()),
    }
}

impl Problem {
    /// Whether the part of the expression that it is about contains `call`, ignoring case.
    fn is_about(&self, text: &str, call: &str) -> bool {
        let part = self.span.clone().and_then(|span| text.get(span)).unwrap_or(text);
        part.to_ascii_lowercase().contains(call)
    }

    fn refers_to_nothing(&self) -> bool {
        matches!(self.code, Code::UnknownName | Code::NotRun | Code::NotAvailable)
    }

    fn render(&self, text: &str, color: bool) -> String {
        let (red, bold, reset) = if color { ("\x1b[1;31m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let mut out =
            format!("{red}error[{}]{reset}{bold}: {}{reset}\n", self.code.number(), Visible(&self.message));
        if let Some(span) = &self.span {
            out.push_str(&caret(text, span.clone()));
            out.push('\n');
        }
        if let Some(hint) = &self.hint {
            out.push_str("  = help: ");
            out.push_str(&visible(hint));
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
