//! Measures the compilation and evaluation of ten typical expressions, compared with hand-written Rust and, where they
//! can express the same, with two other expression engines.
#![allow(missing_docs, reason = "`criterion_group!` creates a public function without documentation")]

use std::{fmt::Write as _, hint::black_box};

use cel::{Context as CelContext, Program};
use criterion::{Criterion, criterion_group};
use loom_expression::{
    Context, Lookup, LookupError, Name, NameKind, Names, Options, Template, Timestamp, Value,
};

/// A context like that of the engine: everything is in slots, nothing is looked up by name.
struct Run {
    variables: Vec<Value>,
    outputs: Vec<Value>,
    trigger: Value,
    item: Value,
}

const VARIABLES: [&str; 3] = ["count", "name", "list"];
const ACTIONS: [&str; 2] = ["A", "Get"];

impl Names for Run {
    fn slot(&self, kind: NameKind, name: &str) -> Option<u32> {
        let names: &[&str] = match kind {
            NameKind::Variable => &VARIABLES,
            NameKind::Action => &ACTIONS,
            NameKind::Parameter | NameKind::Loop => &[],
        };
        names.iter().position(|known| *known == name).map(|at| at as u32)
    }
}

fn at(values: &[Value], name: Name<'_>) -> Lookup {
    let value = name.slot.and_then(|slot| values.get(slot as usize));
    value.cloned().ok_or(LookupError::Unknown { available: Vec::new() })
}

impl Context for Run {
    fn variable(&self, name: Name<'_>) -> Lookup {
        at(&self.variables, name)
    }

    fn action_outputs(&self, name: Name<'_>) -> Lookup {
        at(&self.outputs, name)
    }

    fn trigger_outputs(&self) -> Lookup {
        Ok(self.trigger.clone())
    }

    fn item(&self) -> Lookup {
        Ok(self.item.clone())
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(1_767_225_600_000)
    }
}

fn json(text: &str) -> Value {
    Value::from_json_str(text).expect("the text is JSON")
}

fn run() -> Run {
    Run {
        variables: vec![Value::from(3), Value::from("Sophia"), json(r#"["a", "b", "c"]"#)],
        outputs: vec![
            Value::from(41),
            json(
                r#"{"statusCode": 200, "headers": {"Content-Type": "application/json"}, "body": {"value": [{"id": 7, "name": "x"}]}}"#,
            ),
        ],
        trigger: json(
            r#"{"body": {"from": {"emailAddress": {"address": "a@b.c"}}, "status": "done", "n": 12}}"#,
        ),
        item: json(r#"{"price": 12.5, "count": 4}"#),
    }
}

/// The name of the case, the expression, and its equivalents in CEL and JMESPath, if there are any.
const CASES: [(&str, &str, Option<&str>, Option<&str>); 10] = [
    ("lookup_compare", "@equals(variables('count'), 3)", Some("count == 3u"), Some("count == `3`")),
    (
        "concat_three",
        "@concat('Hello ', variables('name'), '!')",
        Some("'Hello ' + name + '!'"),
        Some("join('', ['Hello ', name, '!'])"),
    ),
    ("add_outputs", "@add(outputs('A'), 1)", Some("a + 1u"), None),
    (
        "deep_access",
        "@body('Get')?['value']?[0]?['id']",
        Some("get.body.value[0].id"),
        Some("get.body.value[0].id"),
    ),
    ("interpolation", "Order @{body('Get')?['value'][0]['id']} for @{variables('name')}", None, None),
    (
        "and_of_two",
        "@and(equals(triggerBody()?['status'], 'done'), greater(triggerBody()?['n'], 10))",
        Some("trigger.status == 'done' && trigger.n > 10u"),
        Some("trigger.status == 'done' && trigger.n > `10`"),
    ),
    ("coalesce_if", "@if(empty(coalesce(triggerBody()?['missing'], '')), 'none', 'some')", None, None),
    ("arithmetic", "@mul(item()['price'], item()['count'])", Some("price * count2"), None),
    ("contains", "@contains(variables('list'), 'c')", Some("'c' in list"), Some("contains(list, 'c')")),
    ("format_date", "@formatDateTime('2018-03-15T13:30:30Z', concat('yyyy-MM', '-dd'))", None, None),
];

/// The equivalent hand-written code, on the same data.
fn by_hand(case: &str, run: &Run) -> Value {
    let body = || run.outputs[1].get("body").expect("it is there");
    let trigger = || run.trigger.get("body").expect("it is there");
    match case {
        "lookup_compare" => Value::from(run.variables[0].as_i64() == Some(3)),
        "concat_three" => Value::from(format!("Hello {}!", run.variables[1].as_str().unwrap_or_default())),
        "add_outputs" => Value::from(run.outputs[0].as_i64().unwrap_or_default() + 1),
        "deep_access" => {
            body().get("value").and_then(|value| value.index(0)?.get("id")).cloned().unwrap_or_default()
        }
        "interpolation" => {
            let id =
                body().get("value").and_then(|value| value.index(0)?.get("id")?.as_i64()).unwrap_or_default();
            Value::from(format!("Order {id} for {}", run.variables[1].as_str().unwrap_or_default()))
        }
        "and_of_two" => Value::from(
            trigger().get("status").and_then(Value::as_str) == Some("done")
                && trigger().get("n").and_then(Value::as_i64) > Some(10),
        ),
        "coalesce_if" => {
            let text = trigger().get("missing").and_then(Value::as_str).unwrap_or("");
            Value::from(if text.is_empty() { "none" } else { "some" })
        }
        "arithmetic" => {
            let number = |name| run.item.get(name).and_then(Value::as_f64).unwrap_or_default();
            Value::from(number("price") * number("count"))
        }
        "contains" => Value::from(
            run.variables[2]
                .as_array()
                .is_some_and(|list| list.iter().any(|item| item.as_str() == Some("c"))),
        ),
        _ => Value::from("2018-03-15"),
    }
}

fn cel_context() -> CelContext<'static, 'static> {
    let run = run();
    let mut context = CelContext::default();
    let mut add = |name: &str, value: &Value| {
        context.add_variable(name, serde_json::Value::from(value)).expect("any JSON is a value");
    };
    add("count", &run.variables[0]);
    add("name", &run.variables[1]);
    add("list", &run.variables[2]);
    add("a", &run.outputs[0]);
    add("get", &run.outputs[1]);
    add("trigger", run.trigger.get("body").expect("it is there"));
    add("price", &Value::from(12.5));
    add("count2", &Value::from(4.0));
    context
}

fn jmespath_data() -> jmespath::Variable {
    let run = run();
    let data = [
        ("count", run.variables[0].clone()),
        ("name", run.variables[1].clone()),
        ("list", run.variables[2].clone()),
        ("get", run.outputs[1].clone()),
        ("trigger", run.trigger.get("body").cloned().unwrap_or_default()),
    ];
    let data = Value::from(data.into_iter().collect::<loom_expression::Object>());
    jmespath::Variable::from_json(&data.to_json_text()).expect("the text is JSON")
}

fn allocations<T>(mut work: impl FnMut() -> T) -> u64 {
    allocation_counter::measure(|| drop(black_box(work()))).count_total
}

fn benches(criterion: &mut Criterion) {
    let run = run();
    let cel = cel_context();
    let jmespath_data = std::rc::Rc::new(jmespath_data());
    for (name, text, in_cel, in_jmespath) in CASES {
        let options = Options::default();
        let compile = || Template::compile_str(text, &run, &options).expect("the case compiles");
        let template = compile();
        assert_eq!(template.evaluate(&run).expect("the case works"), by_hand(name, &run), "{name}");
        let mut counts = format!("{name}: allocations: loom {}", allocations(|| template.evaluate(&run)));
        let _ = write!(counts, ", by hand {}", allocations(|| by_hand(name, &run)));
        let mut group = criterion.benchmark_group(name);
        group.bench_function("compile", |bencher| bencher.iter(compile));
        group.bench_function("evaluate", |bencher| bencher.iter(|| black_box(&template).evaluate(&run)));
        group.bench_function("by_hand", |bencher| bencher.iter(|| by_hand(black_box(name), &run)));
        if let Some(text) = in_cel {
            let program = Program::compile(text).expect("the case compiles");
            let work = || program.execute(&cel).expect("the case works");
            let _ = write!(counts, ", cel {}", allocations(work));
            group.bench_function("cel", |bencher| bencher.iter(work));
        }
        if let Some(text) = in_jmespath {
            let expression = jmespath::compile(text).expect("the case compiles");
            let work = || expression.search(&jmespath_data).expect("the case works");
            let _ = write!(counts, ", jmespath {}", allocations(work));
            group.bench_function("jmespath", |bencher| bencher.iter(work));
        }
        group.finish();
        println!("{counts}");
    }
}

/// Only evaluates one case `count` times, for tools that count instructions.
fn count_out(case: &str, count: u64) {
    let run = run();
    let (_, text, ..) = CASES.iter().find(|known| known.0 == case).expect("the case exists");
    let template = Template::compile_str(text, &run, &Options::default()).expect("the case compiles");
    for _ in 0..count {
        drop(black_box(black_box(&template).evaluate(&run)));
    }
}

criterion_group!(all, benches);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)
    };
    if let (Some(case), Some(count)) = (value("--case"), value("--count")) {
        count_out(case, count.parse().expect("the count is a number"));
        return;
    }
    all();
    Criterion::default().configure_from_args().final_summary();
}
