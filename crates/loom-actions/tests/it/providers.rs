//! Service providers of Standard projects on the wire: what each operation sends, signatures included, and what a flow sees.
//!
//! Signatures are checked by code that shares nothing with the code that makes them: it follows the published rules line by
//! line, on the request that arrived.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use loom_expression::Value;
use loom_testkit::mock::{Mock, Recorded};
use ring::hmac;

use crate::{
    described::executed,
    engine::output,
    support::{json, mock},
};

/// `inputs` of an operation, as a Standard project has them.
fn inputs(provider: &str, operation: &str, parameters: &str) -> String {
    format!(
        r#"{{"parameters": {parameters}, "serviceProviderConfiguration": {{"connectionName": "it", "operationId": "{operation}",
            "serviceProviderId": "/serviceProviders/{provider}"}}}}"#
    )
}

/// A `connections.json` with one connection.
fn project(provider: &str, values: &str, more: &str) -> String {
    format!(
        r#"{{"serviceProviderConnections": {{"it": {{"serviceProvider": {{"id": "/serviceProviders/{provider}"}},
            "parameterValues": {values}{more}}}}}}}"#
    )
}

/// Runs one operation and returns `outputs('Call')`, or its error when it failed.
async fn called(connections: &str, inputs: &str, mock: &Mock) -> Value {
    let actions = format!(
        r#"{{"Call": {{"type": "ServiceProvider", "inputs": {inputs}}},
            "Look": {{"type": "Compose", "runAfter": {{"Call": ["Succeeded", "Failed"]}},
                "inputs": "@coalesce(actions('Call')?['error'], outputs('Call'))"}}}}"#
    );
    let outputs = r#"{"call": {"type": "object", "value": "@outputs('Look')"}}"#;
    let report = executed(connections, &actions, outputs, mock).await;
    output(&report, "call")
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("x={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

const KEY: &[u8] = b"a key of thirty-two bytes, or so";

fn blobs() -> String {
    let key = STANDARD.encode(KEY);
    let text =
        format!("DefaultEndpointsProtocol=http;AccountName=acct;AccountKey={key};BlobEndpoint={{base}}/acct");
    project("AzureBlob", &format!(r#"{{"connectionString": "{text}"}}"#), "")
}

/// Checks the signature of a request to a storage account by the rules of "Authorize with Shared Key".
fn assert_signed(request: &Recorded) {
    let header = |name: &str| request.header(name).unwrap_or_default().to_owned();
    let authorization = header("authorization");
    let (account, signature) = authorization.strip_prefix("SharedKey ").unwrap().split_once(':').unwrap();
    assert_eq!(account, "acct");
    let length = if request.body.is_empty() { String::new() } else { request.body.len().to_string() };
    let mut lines = vec![request.method.clone(), String::new(), String::new(), length, String::new()];
    lines.extend([header("content-type"), String::new(), String::new(), String::new()]);
    lines.extend([header("if-none-match"), String::new(), String::new()]);
    let mut own: Vec<String> = request
        .headers
        .iter()
        .filter(|(name, _)| name.to_lowercase().starts_with("x-ms-"))
        .map(|(name, value)| format!("{}:{}", name.to_lowercase(), value.text()))
        .collect();
    own.sort();
    assert!(own.iter().any(|line| line.starts_with("x-ms-date:")), "{own:?}");
    lines.extend(own);
    lines.push(format!("/acct{}", request.path));
    let mut query: Vec<String> = request
        .query
        .split('&')
        .filter(|member| !member.is_empty())
        .map(|member| {
            let (name, value) = member.split_once('=').unwrap();
            format!("{}:{}", decoded(name).to_lowercase(), decoded(value))
        })
        .collect();
    query.sort();
    lines.extend(query);
    let key = hmac::Key::new(hmac::HMAC_SHA256, KEY);
    let signature = STANDARD.decode(signature).unwrap();
    let text = lines.join("\n");
    assert!(hmac::verify(&key, text.as_bytes(), &signature).is_ok(), "the signature is not that of {text:?}");
    // A control: one changed byte must not verify.
    assert!(hmac::verify(&key, text.replacen("acct", "acca", 1).as_bytes(), &signature).is_err());
}

#[tokio::test]
async fn blobs_are_written_and_read_with_a_shared_key() {
    let mock = mock(
        r#"[{"method": "PUT", "path": "/acct/in/a%20b/c.json", "headers": {"x-ms-blob-type": "BlockBlob", "x-ms-version": null, "if-none-match": "*"},
             "body": {"n": 1}, "response": {"status": 201, "headers": {"ETag": "\"e1\"", "Content-MD5": "bQ=="}}, "calls": 1},
            {"method": "GET", "path": "/acct/in/c.json", "response": {"headers": {"Content-Type": "application/json", "x-ms-meta-By": "ada", "x-ms-blob-type": "BlockBlob"},
             "body": {"n": 1}}, "calls": 2},
            {"method": "DELETE", "path": "/acct/in/c.json", "response": {"status": 202}, "calls": 1}]"#,
    )
    .await;
    let upload = inputs(
        "AzureBlob",
        "uploadBlob",
        r#"{"containerName": "in", "blobName": "a b/c.json", "content": {"n": 1}, "overrideIfExists": "false"}"#,
    );
    let uploaded = called(&blobs(), &upload, &mock).await;
    assert_eq!(
        uploaded.get("body").unwrap().get("properties"),
        Some(&json(
            r#"{"blobFullPathWithContainer": "in/a b/c.json", "contentMD5": "bQ==", "eTag": "\"e1\""}"#
        ))
    );
    let read = |more: &str| {
        inputs("AzureBlob", "readBlob", &format!(r#"{{"containerName": "in", "blobName": "c.json"{more}}}"#))
    };
    let bytes = called(&blobs(), &read(""), &mock).await;
    let content = bytes.get("body").unwrap().get("content").unwrap();
    assert_eq!(content.get("$content-type"), Some(&"application/octet-stream".into()));
    let typed = called(&blobs(), &read(r#", "inferContentType": true"#), &mock).await;
    let body = typed.get("body").unwrap();
    assert_eq!(body.get("content"), Some(&json(r#"{"n": 1}"#)));
    assert_eq!(body.get("metadata"), Some(&json(r#"{"by": "ada"}"#)));
    called(
        &blobs(),
        &inputs("AzureBlob", "deleteBlob", r#"{"containerName": "in", "blobName": "c.json"}"#),
        &mock,
    )
    .await;
    let requests = mock.requests();
    assert_eq!(requests.len(), 4);
    requests.iter().for_each(assert_signed);
    // Nothing of ours is sent to the service.
    assert!(requests.iter().all(|request| request.header("x-ms-workflow-run-id").is_none()));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn blobs_are_found_listed_and_missed() {
    let list = "<?xml version='1.0'?><EnumerationResults><Blobs><Blob><Name>d/a.txt</Name><Properties><Etag>e</Etag>\
        <Content-Type>text/plain</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob></Blobs><NextMarker>m2</NextMarker></EnumerationResults>";
    let rules = r#"[{"method": "GET", "path": "/acct/in", "query": {"restype": "container", "comp": "list", "prefix": "d/", "marker": "m 1"},
             "response": {"headers": {"Content-Type": "application/xml"}, "body": "LIST"}, "calls": 1},
            {"method": "HEAD", "path": "/acct/in/there", "response": {"headers": {"x-ms-blob-type": "BlockBlob"}}, "calls": 1},
            {"method": "HEAD", "path": "/acct/in/gone", "response": {"status": 404}, "calls": 2},
            {"method": "PUT", "path": "/acct/in/there", "query": {"comp": "tier"}, "headers": {"x-ms-access-tier": "Cool"}, "response": {"status": 200}, "calls": 1}]"#;
    let mock = mock(&rules.replace("LIST", list)).await;
    let call = async |operation: &str, parameters: &str| {
        called(&blobs(), &inputs("AzureBlob", operation, parameters), &mock).await
    };
    let listed =
        call("listBlobs", r#"{"containerName": "in", "blobNamePrefix": "d/", "pageMarker": "m 1"}"#).await;
    assert_eq!(
        listed.get("body"),
        Some(&json(
            r#"{"blobs": [{"name": "a.txt", "blobType": "BlockBlob", "blobFullPathWithContainer": "in/d/a.txt", "contentType": "text/plain", "eTag": "e"}],
                "pageMarker": "m2"}"#
        ))
    );
    let there = call("blobExists", r#"{"containerName": "in", "blobName": "there"}"#).await;
    assert_eq!(there.get("body").unwrap().get("isBlobExists"), Some(&true.into()));
    let gone = call("blobExists", r#"{"containerName": "in", "blobName": "gone"}"#).await;
    assert_eq!(gone.get("body"), Some(&json(r#"{"isBlobExists": false}"#)));
    // Only that operation takes a blob that is not there for an answer.
    let missed = call("getBlobMetadata", r#"{"containerName": "in", "blobName": "gone"}"#).await;
    assert_eq!(missed.get("statusCode"), Some(&404.into()));
    call("setBlobTier", r#"{"containerName": "in", "blobName": "there", "blobAccessTier": "Cool"}"#).await;
    mock.requests().iter().for_each(assert_signed);
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_shared_access_signature_goes_into_the_query() {
    let mock = mock(
        r#"[{"method": "DELETE", "path": "/in/c", "query": {"sv": "2021-12-02", "sig": "a+b/c="}, "response": {"status": 202}, "calls": 1}]"#,
    )
    .await;
    let text = "BlobEndpoint={base};SharedAccessSignature=sv=2021-12-02&sig=a%2Bb%2Fc%3D";
    let connections = project("AzureBlob", &format!(r#"{{"connectionString": "{text}"}}"#), "");
    called(
        &connections,
        &inputs("AzureBlob", "deleteBlob", r#"{"containerName": "in", "blobName": "c"}"#),
        &mock,
    )
    .await;
    assert!(mock.requests()[0].header("authorization").is_none());
    assert_eq!(mock.problems(), Vec::<String>::new());
}

fn bus() -> String {
    let text = "Endpoint={base}/;SharedAccessKeyName=send only;SharedAccessKey=k/+=";
    project("serviceBus", &format!(r#"{{"connectionString": "{text}"}}"#), "")
}

/// Checks the token of a request to Service Bus: a signature of the address and the time at which it expires.
fn assert_token(request: &Recorded, base: &str) {
    let token =
        request.header("authorization").unwrap().strip_prefix("SharedAccessSignature ").unwrap().to_owned();
    let part = |name: &str| {
        let found = token.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().to_owned()
    };
    assert!(format!("{base}{}", request.path).starts_with(&decoded(&part("sr"))));
    assert_eq!(decoded(&part("skn")), "send only");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"k/+=");
    let signature = STANDARD.decode(decoded(&part("sig"))).unwrap();
    let text = format!("{}\n{}", part("sr"), part("se"));
    assert!(hmac::verify(&key, text.as_bytes(), &signature).is_ok());
}

#[tokio::test]
async fn messages_are_sent_received_and_completed() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/orders/messages", "headers": {"content-type": "application/vnd.microsoft.servicebus.json"}, "response": {"status": 201}, "calls": 1},
            {"method": "POST", "path": "/orders/messages", "headers": {"content-type": "application/json", "priority": "\"high\"", "tries": "2"},
             "body": {"id": 7}, "response": {"status": 201}, "calls": 1},
            {"method": "POST", "path": "/orders/messages/head", "responses": [
              {"status": 201, "headers": {"BrokerProperties": "{\"MessageId\": \"m1\", \"LockToken\": \"l1\", \"SequenceNumber\": 5, \"DeliveryCount\": 1}", "priority": "\"high\"", "Content-Type": "application/json"}, "body": {"id": 7}},
              {"status": 204}], "calls": 2},
            {"method": "DELETE", "path": "/orders/messages/5/l1", "calls": 1},
            {"method": "PUT", "path": "/news/subscriptions/all/messages/6/l2", "calls": 1}]"#,
    )
    .await;
    let call = async |operation: &str, parameters: &str| {
        called(&bus(), &inputs("serviceBus", operation, parameters), &mock).await
    };
    call(
        "sendMessage",
        r#"{"entityName": "orders", "message": {"contentData": {"id": 7}, "contentType": "application/json", "messageId": "m1", "sessionId": "s",
            "scheduledEnqueueTimeUtc": "2026-01-31T12:00:00Z", "timeToLive": "1.00:00:05", "userProperties": {"priority": "high", "tries": 2}}}"#,
    )
    .await;
    call(
        "sendMessages",
        r#"{"entityName": "orders", "messages": [{"contentData": "one"}, {"contentData": {"n": 2}, "label": "two", "userProperties": {"a": true}}]}"#,
    )
    .await;
    let received = call("getMessagesFromQueueV2", r#"{"queueName": "orders", "maxMessages": 5}"#).await;
    let message = received.get("body").unwrap().index(0).unwrap().clone();
    assert_eq!(message.get("contentData"), Some(&json(r#"{"id": 7}"#)));
    assert_eq!(message.get("userProperties"), Some(&json(r#"{"Priority": "high"}"#)));
    assert_eq!(message.get("lockToken"), Some(&"5/l1".into()));
    let none = call("getMessagesFromQueueV2", r#"{"queueName": "orders"}"#).await;
    assert_eq!(none.get("body"), Some(&json("[]")));
    call("completeQueueMessageV2", r#"{"queueName": "orders", "lockToken": "5/l1"}"#).await;
    call("abandonTopicMessageV2", r#"{"topicName": "news", "subscriptionName": "all", "lockToken": "6/l2"}"#)
        .await;
    let foreign = call("completeQueueMessageV2", r#"{"queueName": "orders", "lockToken": "l1"}"#).await;
    assert!(foreign.get("message").unwrap().text().contains("getMessagesFromQueueV2"), "{foreign:?}");
    let requests = mock.requests();
    let broker = json(requests[0].header("brokerproperties").unwrap());
    assert_eq!(
        broker,
        json(
            r#"{"SessionId": "s", "MessageId": "m1", "ScheduledEnqueueTimeUtc": "Sat, 31 Jan 2026 12:00:00 GMT", "TimeToLive": 86405}"#
        )
    );
    assert_eq!(
        requests[1].body_value(),
        json(
            r#"[{"Body": "one"}, {"Body": "{\"n\":2}", "BrokerProperties": {"Label": "two"}, "UserProperties": {"a": true}}]"#
        )
    );
    for request in &requests {
        assert_token(request, &mock.base_url());
    }
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn events_are_published_with_the_key_of_the_topic() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/api/events", "query": {"api-version": "2018-01-01"}, "headers": {"aeg-sas-key": "k"}, "calls": 1}]"#,
    )
    .await;
    let connections =
        project("eventGridPublisher", r#"{"topicEndpoint": "{base}/api/events", "accessKey": "k"}"#, "");
    let events = r#"{"events": [{"id": "1", "subject": "s", "eventType": "t", "data": {"n": 1}, "eventTime": "2026-01-01T00:00:00Z"},
        {"id": "2", "subject": "s", "eventType": "t", "data": [], "dataVersion": "2"}]}"#;
    called(&connections, &inputs("eventGridPublisher", "publishEvents", events), &mock).await;
    let sent = mock.requests()[0].body_value();
    assert_eq!(
        sent.index(0),
        Some(&json(
            r#"{"id": "1", "subject": "s", "eventType": "t", "data": {"n": 1}, "eventTime": "2026-01-01T00:00:00Z", "dataVersion": "1.0"}"#
        ))
    );
    assert!(sent.index(1).unwrap().get("eventTime").is_some());
    assert_eq!(sent.index(1).unwrap().get("dataVersion"), Some(&"2".into()));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn a_secret_of_a_vault_is_read_with_a_token_and_stays_secret() {
    let mock = mock(
        r#"[{"method": "POST", "path": "/token", "response": {"body": {"access_token": "t1", "expires_in": 3600}}, "calls": 1},
            {"method": "GET", "path": "/secrets/db", "query": {"api-version": "7.4"}, "headers": {"authorization": "Bearer t1"},
             "response": {"body": {"value": "hunter2", "id": "https://v.vault.azure.net/secrets/db/9f", "attributes": {"enabled": true, "created": 1700000000}}}, "calls": 1}]"#,
    )
    .await;
    let connections = project(
        "keyVault",
        r#"{"VaultUri": "{base}"}"#,
        r#", "authentication": {"type": "OAuth", "tokenUrl": "{base}/token", "clientId": "c", "clientSecret": "s"}"#,
    );
    let read = called(&connections, &inputs("keyVault", "getSecret", r#"{"secretName": "db"}"#), &mock).await;
    let body = read.get("body").unwrap();
    assert!(body.get("value").unwrap().is_secret());
    assert_eq!(body.get("name"), Some(&"db".into()));
    assert_eq!(body.get("version"), Some(&"9f".into()));
    assert!(body.get("createdTime").unwrap().text().starts_with("2023-11-14T22:13:20"), "{body:?}");
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn rows_go_through_data_api_builder() {
    let mock = mock(
        r#"[{"method": "GET", "path": "/api/Orders", "query": {"$filter": "City eq 'O''Fallon' and Id eq 3"}, "response": {"body": {"value": [{"Id": 3}]}}, "calls": 1},
            {"method": "POST", "path": "/api/Orders", "body": {"Id": 4}, "response": {"status": 201, "body": {"value": [{"Id": 4, "At": "now"}]}}, "calls": 1},
            {"method": "PATCH", "path": "/api/Orders/Id/4", "headers": {"if-match": "*"}, "body": {"City": "Oslo"}, "response": {"body": {"value": [{"Id": 4}]}}, "calls": 1},
            {"method": "DELETE", "path": "/api/Orders/Id/4", "response": {"status": 204}, "calls": 1},
            {"method": "POST", "path": "/api/Totals", "body": {"year": 2026}, "response": {"body": {"value": [{"n": 1}]}}, "calls": 1}]"#,
    )
    .await;
    let connections = project("sql", "{}", r#", "baseUrl": "{base}/api""#);
    let call = async |operation: &str, parameters: &str| {
        let outputs = called(&connections, &inputs("sql", operation, parameters), &mock).await;
        outputs.get("body").cloned().unwrap_or(outputs)
    };
    let rows = call(
        "getRows",
        r#"{"tableName": "[dbo].[Orders]", "columnValuesForWhereCondition": {"City": "O'Fallon", "Id": 3}}"#,
    )
    .await;
    assert_eq!(rows, json(r#"[{"Id": 3}]"#));
    let row = call("insertRow", r#"{"tableName": "dbo.Orders", "setColumns": {"Id": 4}}"#).await;
    assert_eq!(row, json(r#"{"Id": 4, "At": "now"}"#));
    let key = r#""columnValuesForWhereCondition": {"Id": 4}"#;
    call("updateRows", &format!(r#"{{"tableName": "Orders", "setColumns": {{"City": "Oslo"}}, {key}}}"#))
        .await;
    assert_eq!(call("deleteRows", &format!(r#"{{"tableName": "Orders", {key}}}"#)).await, json("[]"));
    let totals = call(
        "executeStoredProcedure",
        r#"{"storedProcedureName": "[dbo].[Totals]", "storedProcedureParameters": {"@@year": 2026}}"#,
    )
    .await;
    assert_eq!(totals, json(r#"{"resultSets": {"Table1": [{"n": 1}]}}"#));
    assert_eq!(mock.problems(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_connection_lacks_is_named_before_anything_is_sent() {
    let mock = mock("[]").await;
    for (provider, values, operation, part) in [
        ("AzureBlob", "{}", "listContainers", "no 'blobStorageEndpoint' and no 'connectionString'"),
        ("AzureBlob", r#"{"connectionString": "AccountName=a"}"#, "listContainers", "no 'AccountKey'"),
        (
            "serviceBus",
            r#"{"connectionString": "Endpoint=sb://n/"}"#,
            "sendMessage",
            "no 'SharedAccessKeyName'",
        ),
        ("sql", r#"{"connectionString": "Server=x"}"#, "getRows", "address of Data API builder"),
        ("sftp", "{}", "getFileContent", "built-in service provider"),
    ] {
        let parameters =
            if operation == "sendMessage" { r#"{"entityName": "q", "message": {}}"# } else { "{}" };
        let refused =
            called(&project(provider, values, ""), &inputs(provider, operation, parameters), &mock).await;
        assert_eq!(refused.get("code"), Some(&"ConnectionNotFound".into()), "{refused:?}");
        assert!(refused.get("message").unwrap().text().contains(part), "{refused:?}");
    }
    let wrong = called(&blobs(), &inputs("AzureBlob", "readBlob", r#"{"containerName": "in"}"#), &mock).await;
    assert_eq!(wrong.get("code"), Some(&"OpenApiOperationParameterValidationFailed".into()));
    assert_eq!(mock.problems(), Vec::<String>::new());
}
