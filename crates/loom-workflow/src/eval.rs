//! `loom eval`: one expression, its value or its error with a caret under the place.

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
            if let Some(meant) = without_its_sign(&text) {
                eprintln!("loom: this is a text, and no expression; `{meant}` is one");
            }
            Ok(Exit::Success)
        }
        Err((mut problems, exit)) => {
            for problem in problems.iter_mut().filter(|problem| problem.refers_to_nothing()) {
                problem.hint.get_or_insert_with(|| hint(args).to_owned());
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

/// What an expression may refer to, of the file and of the options, which go before it.
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
            value.into_object().context("--context: an object is wanted")?
        }
    };
    if let Some(name) = data.keys().find(|name| !RecordedContext::MEMBERS.contains(&&***name)) {
        let hint = did_you_mean(name, RecordedContext::MEMBERS.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("it may have {}", RecordedContext::MEMBERS.join(", ")));
        bail!("--context: a context has no member `{name}`; {hint}");
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
    // A seed in the data makes random values repeatable; without one they differ from call to call.
    Ok(if data.get("seed").is_some() { context } else { context.with_seed(now.ticks() as u64) })
}

fn named<'a>(option: &str, argument: &'a str) -> Result<(&'a str, &'a str)> {
    argument
        .split_once('=')
        .with_context(|| format!("{option} takes NAME=VALUE, and '{argument}' has no `=`"))
}

/// Puts a value under a name into an object of the context.
fn put(data: &mut Object, member: &str, name: &str, value: Value) {
    let mut map = data.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
    map.insert(name, value);
    data.insert(member, map);
}

/// The expression that a text would be with the sign that makes it one, if it is the call of a function.
fn without_its_sign(text: &str) -> Option<String> {
    let call = !text.contains('@') && text.trim_end().ends_with(')');
    let meant = format!("@{}", text.trim());
    let compiles = || Template::compile_str(&meant, &NoNames, &Options::default()).is_ok();
    (call && compiles()).then_some(meant)
}

/// What gives an expression the thing it refers to in vain.
fn hint(args: &EvalArgs) -> &'static str {
    if args.context.is_some() {
        "the context has nothing of that name"
    } else {
        "--param, --variable, --body, --outputs and --context give it something to refer to"
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
        // A call with a wrong number of arguments was seen already, with the signature it should have.
        let seen = template.warnings().iter().find(|seen| Some(&seen.span) == error.span.as_ref());
        let hint = seen.and_then(|seen| seen.hint.clone());
        let problem = Problem { code: error.code, message: error.message, hint, span: error.span };
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
        Some(text) if !json => console::value(text),
        _ if json => console::json(&value.to_json_text()),
        _ => console::json(&value.to_json_text_pretty()),
    }
}

impl Problem {
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
