//! How long does it take to read a description, and to make a request of an operation?
//!
//! The document has operations like those of public connectors, at three sizes. A call is measured with the operation already
//! built, as in a running workflow. With `LOOM_CORPUS`, the descriptions in its directory `connectors` are read too, all of them.

use std::{
    fmt::Write as _,
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use loom_connectors::{Connection, Connector, NoFiles, Value};

/// A document of about this many bytes.
fn document(bytes: usize) -> String {
    let mut paths = String::new();
    let mut at = 0;
    while paths.len() < bytes {
        let comma = if at == 0 { "" } else { "," };
        write!(
            paths,
            r##"{comma}"/lists/{{list}}/items{at}": {{"post": {{"operationId": "Add{at}", "summary": "Add an item to a list",
            "description": "Adds an item to the end of a list, and returns it with its number.",
            "parameters": [{{"name": "list", "in": "path", "required": true, "type": "string", "x-ms-summary": "List"}},
            {{"name": "body", "in": "body", "required": true, "schema": {{"$ref": "#/definitions/Item"}}}}],
            "responses": {{"200": {{"description": "the item", "schema": {{"$ref": "#/definitions/Item"}}}}}}}}}}"##
        )
        .expect("a string takes any text");
        at += 1;
    }
    format!(
        r#"{{"swagger": "2.0", "host": "example.com", "paths": {{{paths}}}, "definitions": {{"Item": {{"type": "object", "required": ["title"],
        "properties": {{"title": {{"type": "string"}}, "count": {{"type": "integer", "minimum": 0}}, "tags": {{"type": "array", "items": {{"type": "string"}}}}}}}}}}}}"#
    )
}

fn read(document: &str) -> Connector {
    Connector::read("bench", document.as_bytes(), None, Arc::new(NoFiles)).expect("it is a description")
}

/// The public descriptions, each with its properties; none when nobody says where they are.
fn public() -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    #[expect(clippy::disallowed_methods, reason = "a benchmark has no settings")]
    let Ok(corpus) = std::env::var("LOOM_CORPUS") else { return Vec::new() };
    let directory = Path::new(&corpus).join("connectors");
    let files = fs::read_dir(&directory).expect("the corpus has a directory `connectors`");
    let mut documents: Vec<PathBuf> = files.map(|file| file.expect("it can be listed").path()).collect();
    documents.retain(|path| path.to_string_lossy().ends_with(".swagger.json"));
    documents.sort();
    let read = |path: &PathBuf| {
        let properties = path.to_string_lossy().replace(".swagger.json", ".properties.json");
        (fs::read(path).expect("it can be read"), fs::read(properties).ok())
    };
    documents.iter().map(read).collect()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read");
    for kibibytes in [32, 256, 1024] {
        let document = document(kibibytes << 10);
        group.throughput(Throughput::Bytes(document.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{kibibytes} KiB")), |bencher| {
            bencher.iter(|| read(black_box(&document)));
        });
    }
    group.finish();

    let public = public();
    if !public.is_empty() {
        criterion.bench_function(&format!("read/{} public descriptions", public.len()), |bencher| {
            bencher.iter(|| {
                for (document, properties) in &public {
                    let files = Arc::new(NoFiles);
                    black_box(Connector::read("bench", document, properties.as_deref(), files))
                        .expect("it is a description");
                }
            });
        });
    }

    let connector = read(&document(32 << 10));
    let arguments = Value::from_json_str(
        r#"{"list": "to do", "body/title": "Milk", "body/count": 2, "body/tags": ["a", "b"]}"#,
    );
    let arguments = arguments.expect("it is JSON");
    let connection = Connection::default();
    criterion.bench_function("call", |bencher| {
        bencher.iter(|| {
            let call =
                connector.call("Add7", black_box(&arguments), &connection, None).expect("the arguments fit");
            call.request(&[]).expect("there are no policies")
        });
    });
}

criterion_group!(all, benches);
criterion_main!(all);
