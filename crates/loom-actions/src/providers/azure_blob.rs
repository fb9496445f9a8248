//! Azure Blob Storage: the REST API of storage accounts, version 2021-12-02.

use loom_expression::{
    Object, Value, envelope,
    xpath::{Document, Node, parse_document},
};

use super::{
    Response,
    access::{Access, ConnectionString, Given},
    below, is_true, members, text,
};
use crate::{Failure, requests::Spec, url::Url};

const VERSION: &str = "2021-12-02";

/// The account of the storage emulator, which is the same everywhere and public.
const DEVELOPMENT: &str = "AccountName=devstoreaccount1;BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;\
    AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub(super) fn access(given: &Given<'_>) -> Result<Access, String> {
    let Some(text) = given.text("connectionString") else {
        let address = given.required("blobStorageEndpoint", " and no 'connectionString'")?;
        return Access::new(&address, given.token("https://storage.azure.com/"));
    };
    let mut settings = ConnectionString::parse(&text);
    if settings.is_true("UseDevelopmentStorage") {
        settings = ConnectionString::parse(DEVELOPMENT);
    }
    let address = match (settings.get("BlobEndpoint"), given.base_url()) {
        (Some(address), _) => address.to_owned(),
        (None, Some(own)) => own.to_owned(),
        (None, None) => {
            let protocol = settings.get("DefaultEndpointsProtocol").unwrap_or("https");
            let suffix = settings.get("EndpointSuffix").unwrap_or("core.windows.net");
            format!("{protocol}://{}.blob.{suffix}", settings.required("AccountName")?)
        }
    };
    if let Some(signature) = settings.get("SharedAccessSignature") {
        let mut access = Access::new(&address, Value::NULL)?;
        for pair in signature.trim_start_matches('?').split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = loom_expression::percent::decode(value);
            access.queries.insert(name, Value::from(value).into_secret());
        }
        return Ok(access);
    }
    let authentication = members([
        ("type", "AzureSharedKey".into()),
        ("account", settings.required("AccountName")?.into()),
        ("key", Value::from(settings.required("AccountKey")?).into_secret()),
    ]);
    Access::new(&address, authentication)
}

pub(super) fn complete(
    operation: &str,
    parameters: &Value,
    address: &Url,
    spec: &mut Spec,
) -> Result<(), Failure> {
    let (container, blob) = (text(parameters, "containerName"), text(parameters, "blobName"));
    let mut segments = vec![container.as_str()];
    segments.extend(blob.split('/').filter(|segment| !segment.is_empty()));
    segments.retain(|segment| !segment.is_empty());
    spec.url = below(address, &segments)?;
    spec.add_plain_header("x-ms-version", VERSION);
    let mut queries: Vec<(&'static str, Value)> = Vec::new();
    let given = |name: &str| parameters.get(name).cloned().unwrap_or_default();
    match operation {
        "uploadBlob" => {
            spec.body = given("content");
            spec.remove_header("Content-Type");
            spec.add_plain_header("x-ms-blob-type", "BlockBlob");
            if parameters.get("overrideIfExists").is_some_and(|value| !is_true(Some(value))) {
                spec.add_plain_header("If-None-Match", "*");
            }
        }
        "setBlobTier" => {
            queries.push(("comp", "tier".into()));
            spec.add_plain_header("x-ms-access-tier", &text(parameters, "blobAccessTier"));
        }
        "listBlobs" | "listContainers" => {
            if operation == "listBlobs" {
                queries.push(("restype", "container".into()));
            }
            queries.push(("comp", "list".into()));
            queries.push(("prefix", given("blobNamePrefix")));
            queries.push(("marker", given("pageMarker")));
            if is_true(parameters.get("excludeSubFolderBlobs")) {
                queries.push(("delimiter", "/".into()));
            }
        }
        "getContainerMetadata" => queries.push(("restype", "container".into())),
        _ => {}
    }
    spec.queries = members(queries);
    Ok(())
}

pub(super) fn received(response: &Response<'_>) -> Option<Value> {
    let headers = response.headers();
    let is_success = response.answer.is_success();
    if response.operation == "blobExists" && response.answer.status == 404 {
        return Some(members([("isBlobExists", false.into())]));
    }
    if !is_success {
        return None;
    }
    let path = format!(
        "{}/{}",
        text(response.parameters, "containerName"),
        text(response.parameters, "blobName").trim_start_matches('/')
    );
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let header = |name: &str| headers.get_ignore_case(name).cloned().unwrap_or_default();
    let properties = || {
        vec![
            ("creationTime", header("x-ms-creation-time")),
            ("blobType", header("x-ms-blob-type")),
            ("blobFullPathWithContainer", path.as_str().into()),
            ("contentDisposition", header("Content-Disposition")),
            ("contentMD5", header("Content-MD5")),
            ("contentType", header("Content-Type")),
            ("contentLanguage", header("Content-Language")),
            ("eTag", header("ETag")),
        ]
    };
    let metadata = || {
        let named =
            headers.iter().filter_map(|(name, value)| Some((name.get(..10)?, name.get(10..)?, value)));
        let own = named.filter(|(start, _, _)| start.eq_ignore_ascii_case("x-ms-meta-"));
        Value::from(own.map(|(_, name, value)| (name, value.clone())).collect::<Object>())
    };
    Some(match response.operation {
        "readBlob" => members([
            ("content", response.body()),
            ("properties", members(properties())),
            ("metadata", metadata()),
        ]),
        "uploadBlob" => members([("properties", members(properties())), ("metadata", metadata())]),
        "blobExists" => members([
            ("isBlobExists", true.into()),
            ("properties", members(properties())),
            ("metadata", metadata()),
        ]),
        "getBlobMetadata" => members([("name", name.into())].into_iter().chain(properties())),
        "getContainerMetadata" => members([
            ("name", text(response.parameters, "containerName").into()),
            ("eTag", header("ETag")),
            ("lastModifiedTime", header("Last-Modified")),
        ]),
        "listBlobs" | "listContainers" => {
            let xml = envelope::text(&response.body()).into_owned();
            let xml = xml.trim_start_matches('\u{feff}');
            listed(
                &parse_document(xml).ok()?,
                response.operation,
                &text(response.parameters, "containerName"),
            )
        }
        _ => return None,
    })
}

/// The blobs or the containers in a list.
fn listed(list: &Document<'_>, operation: &str, container: &str) -> Value {
    let (element, property) =
        if operation == "listBlobs" { ("Blob", "blobs") } else { ("Container", "containers") };
    let found = list.root().descendants().filter(|node| node.has_tag_name(element));
    let items = found.map(|node| {
        let name = child(node, "Name");
        let own = |name: &str| {
            node.children().find(|node| node.has_tag_name("Properties")).map_or(Value::NULL, |properties| {
                let text = child(properties, name);
                if text.is_empty() { Value::NULL } else { text.into() }
            })
        };
        if operation == "listContainers" {
            return members([
                ("name", name.into()),
                ("eTag", own("Etag")),
                ("lastModifiedTime", own("Last-Modified")),
            ]);
        }
        members([
            ("name", name.rsplit('/').next().unwrap_or_default().into()),
            ("creationTime", own("Creation-Time")),
            ("blobType", own("BlobType")),
            ("blobFullPathWithContainer", format!("{container}/{name}").into()),
            ("contentDisposition", own("Content-Disposition")),
            ("contentMD5", own("Content-MD5")),
            ("contentType", own("Content-Type")),
            ("contentLanguage", own("Content-Language")),
            ("eTag", own("Etag")),
        ])
    });
    let items: Value = items.collect::<Vec<Value>>().into();
    let marker = list.root_element();
    let marker = child(marker, "NextMarker");
    members([(property, items), ("pageMarker", if marker.is_empty() { Value::NULL } else { marker.into() })])
}

fn child(node: Node<'_, '_>, name: &str) -> String {
    let found = node.children().find(|node| node.has_tag_name(name));
    found.and_then(|node| node.text()).unwrap_or_default().to_owned()
}
