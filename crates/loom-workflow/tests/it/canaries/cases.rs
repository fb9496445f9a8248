//! The workflows: a name and the properties of each definition. `PIECES` stands for an array of the pieces of the case's secret,
//! `SECRET` for the whole, `SERVICE` for the address of a service on loopback, and `CASE` for the case's number.

/// One workflow.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent property of a case")]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Members of the definition. Without `triggers` it has a plain Request trigger.
    pub(super) body: &'static str,
    /// Whether its Response, which must not be altered, contains the secret.
    pub(super) answers: bool,
    /// Whether its trigger may reject the request.
    pub(super) refused: bool,
    /// Whether it calls others that only a server has.
    pub(super) needs_server: bool,
    /// How many runs one call starts.
    pub(super) runs: usize,
    /// Whether it has no secret of its own and receives those of other cases.
    pub(super) uses_other_secrets: bool,
}

const fn case(name: &'static str, body: &'static str) -> Case {
    Case {
        name,
        body,
        answers: false,
        refused: false,
        needs_server: false,
        runs: 1,
        uses_other_secrets: false,
    }
}

impl Case {
    const fn answers(mut self) -> Case {
        self.answers = true;
        self
    }

    const fn using_other_secrets(mut self) -> Case {
        self.uses_other_secrets = true;
        self
    }

    const fn needs_server(mut self) -> Case {
        self.needs_server = true;
        self
    }

    const fn runs(mut self, runs: usize) -> Case {
        self.runs = runs;
        self
    }

    const fn refused(mut self) -> Case {
        self.refused = true;
        self
    }

    pub(super) fn number(name: &str) -> usize {
        CASES.iter().position(|case| case.name == name).expect("it is one of the cases")
    }

    /// Whether the test calls its trigger.
    pub(super) fn is_called(&self) -> bool {
        !self.polls() && !self.uses_other_secrets
    }

    /// Whether its trigger polls.
    pub(super) fn polls(&self) -> bool {
        self.body.contains("\"recurrence\"")
    }

    pub(super) fn definition(&self, number: usize, service: &str) -> String {
        let secret = format!("secret('case-{number:02}')");
        let trigger = if self.body.contains("\"triggers\"") {
            String::new()
        } else {
            r#""triggers": {"manual": {"type": "Request"}},"#.to_owned()
        };
        let body = self
            .body
            .replace("PIECES", "split(SECRET,'-')")
            .replace("SECRET", &secret)
            .replace("SERVICE", service)
            .replace("CASE", &format!("{number:02}"));
        format!("{{\"contentVersion\": \"1.0.0.0\", {trigger} {body}}}")
    }
}

/// Maps and schemas of the cases, by their path below `Artifacts`.
pub(super) const ARTIFACTS: [(&str, &str); 4] = [
    (
        "Maps/list.liquid",
        r#"{"list": [{% for it in content.list %}"{{ it }}"{% unless forloop.last %},{% endunless %}{% endfor %}]}"#,
    ),
    (
        "Maps/copy.xslt",
        r#"<xsl:stylesheet version="1.0" xmlns:xsl="http://www.w3.org/1999/XSL/Transform">
            <xsl:template match="/"><b><xsl:value-of select="a"/></b></xsl:template></xsl:stylesheet>"#,
    ),
    (
        "Schemas/a.xsd",
        r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"><xs:element name="a" type="xs:string"/></xs:schema>"#,
    ),
    (
        "Schemas/rows.xsd",
        r#"<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:b="http://schemas.microsoft.com/BizTalk/2003">
            <xs:annotation><xs:appinfo><b:schemaInfo root_reference="Rows"/></xs:appinfo></xs:annotation>
            <xs:element name="Rows"><xs:annotation><xs:appinfo>
                <b:recordInfo structure="delimited" child_delimiter_type="hex" child_delimiter="0x0A" child_order="infix"/>
            </xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
            <xs:element name="Row" maxOccurs="unbounded"><xs:annotation><xs:appinfo>
                <b:recordInfo structure="delimited" child_delimiter_type="char" child_delimiter="," child_order="infix"/>
            </xs:appinfo></xs:annotation><xs:complexType><xs:sequence>
            <xs:element name="Name" type="xs:string"/><xs:element name="Age" type="xs:int"/>
            </xs:sequence></xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element></xs:schema>"#,
    ),
];

/// All cases. A name is that of the file and of the workflow.
pub(super) const CASES: &[Case] = &[
    case("compose", r#""actions": {"A": {"type": "Compose", "inputs": {"a": "@PIECES", "b": "@{PIECES[1]}!"}, "runAfter": {}}}"#),
    case("select", r#""actions": {"A": {"type": "Select", "inputs": {"from": "@PIECES", "select": {"it": "@item()"}}, "runAfter": {}}}"#),
    case("query", r#""actions": {"A": {"type": "Query", "inputs": {"from": "@PIECES", "where": "@contains(item(), 'Alpha')"}, "runAfter": {}}}"#),
    case("join", r#""actions": {"A": {"type": "Join", "inputs": {"from": "@PIECES", "joinWith": "+"}, "runAfter": {}}}"#),
    case("table", r#""actions": {"A": {"type": "Table", "inputs": {"format": "CSV", "from": "@createArray(json(concat('{\"a\":\"', PIECES[0], '\"}')))"}, "runAfter": {}}}"#),
    case("foreach", r#""actions": {"I": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "all", "type": "array"}, {"name": "text", "type": "string", "value": ""}]}, "runAfter": {}},
        "Set": {"type": "SetVariable", "inputs": {"name": "all", "value": []}, "runAfter": {"I": ["Succeeded"]}},
        "F": {"type": "Foreach", "foreach": "@PIECES", "runtimeConfiguration": {"concurrency": {"repetitions": 1}}, "actions": {
            "A": {"type": "Compose", "inputs": "it is @{item()}", "runAfter": {}},
            "B": {"type": "AppendToArrayVariable", "inputs": {"name": "all", "value": "@items('F')"}, "runAfter": {"A": ["Succeeded"]}},
            "C": {"type": "AppendToStringVariable", "inputs": {"name": "text", "value": "@{item()}"}, "runAfter": {"B": ["Succeeded"]}}},
            "runAfter": {"Set": ["Succeeded"]}},
        "After": {"type": "Compose", "inputs": {"a": "@variables('all')", "b": "@variables('text')", "c": "@result('F')"}, "runAfter": {"F": ["Succeeded"]}}}"#),
    case("loops-over-parts", r#""actions": {
        "A": {"type": "Foreach", "foreach": "@chunk(PIECES, 2)", "actions": {"A1": {"type": "Compose", "inputs": "@item()[0]", "runAfter": {}}}, "runAfter": {}},
        "B": {"type": "Foreach", "foreach": "@reverse(PIECES)", "actions": {"B1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "C": {"type": "Foreach", "foreach": "@take(PIECES, 2)", "actions": {"C1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "D": {"type": "Foreach", "foreach": "@skip(PIECES, 1)", "actions": {"D1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "E": {"type": "Foreach", "foreach": "@union(PIECES, createArray('x'))", "actions": {"E1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "F": {"type": "Foreach", "foreach": "@sort(PIECES)", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "G": {"type": "Foreach", "foreach": "@createArray(PIECES)", "actions": {"G1": {"type": "Compose", "inputs": "@item()[1]", "runAfter": {}}}, "runAfter": {}},
        "H": {"type": "Foreach", "foreach": "@xpath(xml(concat('<a><b>', PIECES[0], '</b></a>')), '//b/text()')", "actions": {"H1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}}}"#),
    case("variables", r#""actions": {"I": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "v", "type": "object", "value": "@json(concat('{\"a\":\"', PIECES[0], '\"}'))"}]}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@variables('v')?['a']", "runAfter": {"I": ["Succeeded"]}},
        "S": {"type": "SetVariable", "inputs": {"name": "v", "value": "@json(concat('{\"', PIECES[1], '\":1}'))"}, "runAfter": {"A": ["Succeeded"]}}}"#),
    case("terminate", r#""actions": {"T": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": "@json(concat('{\"code\":\"', PIECES[0], '\",\"message\":\"', PIECES[1], '\"}'))"}, "runAfter": {}}}"#),
    case("parse-json", r#""actions": {"P": {"type": "ParseJson", "inputs": {"content": "@concat('{\"', PIECES[1], '\":\"', PIECES[0], '\"}')", "schema": {"type": "object", "additionalProperties": {"type": "integer", "enum": [1]}, "required": ["b"]}}, "runAfter": {}}}"#),
    case("parsed-json", r#""actions": {"P": {"type": "ParseJson", "inputs": {"content": "@concat('{\"a\":\"', PIECES[0], '\"}')", "schema": {}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@body('P')?['a']", "runAfter": {"P": ["Succeeded"]}}}"#),
    case("http-headers", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok", "headers": "@json(concat('{\"x-a\":\"', PIECES[0], '\"}'))"}, "runAfter": {}}}"#),
    case("http-uri", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "@concat('htp:/', PIECES[0])"}, "runAfter": {}}}"#),
    case("http-path", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "@concat('http://127.0.0.1:1/', PIECES[0], '?q=', PIECES[1])"}, "runAfter": {}}}"#),
    case("http-host", r#""actions": {"H": {"type": "Http", "circuitBreaker": {}, "inputs": {"method": "GET", "uri": "@concat('http://', PIECES[0], ':99999/')"}, "runAfter": {}}}"#),
    case("http-header-name", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok", "headers": "@json(concat('{\"', PIECES[0], ' b\":\"x\"}'))"}, "runAfter": {}}}"#),
    case("http-method", r#""actions": {"H": {"type": "Http", "inputs": {"method": "@concat(PIECES[0], ' b')", "uri": "SERVICE/ok"}, "runAfter": {}}}"#),
    case("http-status", r#""actions": {"H": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/fail", "body": "@PIECES"}, "runAfter": {}}}"#),
    case("authentication-type", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok", "authentication": {"type": "@{PIECES[0]}"}}, "runAfter": {}}}"#),
    case("authentication-tenant", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok", "authentication": {"type": "ActiveDirectoryOAuth", "tenant": "@{PIECES[0]}", "audience": "a", "clientId": "@{PIECES[1]}", "secret": "@{PIECES[2]}"}}, "runAfter": {}}}"#),
    case("authentication-read", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok?q=@{PIECES[1]}", "authentication": {"type": "Basic", "username": "u", "password": "@{PIECES[0]}"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@actions('H')?['inputs']", "runAfter": {"H": ["Succeeded"]}}}"#),
    case("missing-child", r#""actions": {"W": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "@{PIECES[0]}"}, "triggerName": "manual"}}, "runAfter": {}}}"#),
    case("missing-function", r#""actions": {"W": {"type": "Function", "inputs": {"function": {"id": "@{PIECES[0]}"}}, "runAfter": {}}}"#),
    case("missing-connection", r#""actions": {"W": {"type": "ApiConnection", "inputs": {"host": {"connection": {"name": "@{PIECES[0]}"}}, "method": "get", "path": "/x"}, "runAfter": {}}}"#),
    case("retry-interval", r#""actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok", "retryPolicy": {"type": "fixed", "count": 2, "interval": "@{PIECES[0]}"}}, "runAfter": {}}}"#),
    case("limit-timeout", r#""actions": {"H": {"type": "Http", "limit": {"timeout": "@{PIECES[0]}"}, "inputs": {"method": "GET", "uri": "SERVICE/ok"}, "runAfter": {}}}"#),
    case("until-limit", r#""actions": {"U": {"type": "Until", "expression": "@equals(1, 1)", "limit": {"count": 2, "timeout": "@{PIECES[0]}"}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}, "runAfter": {}}}"#),
    case("available-properties", r#""actions": {"A": {"type": "Compose", "inputs": "@json(concat('{\"', PIECES[0], '\":1}'))['nope']", "runAfter": {}}}"#),
    case("sort-by", r#""actions": {"A": {"type": "Compose", "inputs": "@sort(createArray(json('{\"a\":1}')), PIECES[0])", "runAfter": {}}}"#),
    case("secret-of-secret", r#""actions": {"A": {"type": "Compose", "inputs": "@secret(PIECES[0])", "runAfter": {}}}"#),
    // The service is a provider, too: `bad` repeats the secret and the provider's token in an error.
    case("provider", r#""actions": {"A": {"type": "Compose", "inputs": "@split(secret('vault:good/CASE'), '-')", "runAfter": {}},
        "B": {"type": "Compose", "inputs": "@secret('vault:bad/CASE')", "runAfter": {"A": ["Succeeded"]}},
        "C": {"type": "Compose", "inputs": "@secret('vault:denied/CASE', 7)", "runAfter": {"A": ["Succeeded"]}},
        "D": {"type": "Compose", "inputs": "@declassify(PIECES[0])", "runAfter": {"A": ["Succeeded"]}},
        "E": {"type": "Compose", "inputs": "@secret(concat('vault:good/', PIECES[0]))", "runAfter": {"A": ["Succeeded"]}}}"#),
    case("not-an-integer", r#""actions": {"A": {"type": "Compose", "inputs": "@int(PIECES[0])", "runAfter": {}}}"#),
    case("wait-until", r#""actions": {"W": {"type": "Wait", "inputs": {"until": {"timestamp": "@{PIECES[0]}"}}, "runAfter": {}}}"#),
    case("switch", r#""actions": {"S": {"type": "Switch", "expression": "@PIECES[0]", "cases": {"one": {"case": "x", "actions": {}}}, "default": {"actions": {}}, "runAfter": {}}}"#),
    case("response", r#""actions": {"R": {"type": "Response", "inputs": {"statusCode": 200, "body": {"got": "@PIECES"}}, "runAfter": {}}}"#).answers(),
    case("response-status", r#""actions": {"R": {"type": "Response", "inputs": {"statusCode": "@{PIECES[0]}", "body": 1}, "runAfter": {}},
        "Q": {"type": "Response", "inputs": {"statusCode": 200, "body": 1}, "runAfter": {"R": ["Failed"]}}}"#).refused(),
    case("script", r#""actions": {"C": {"type": "Compose", "inputs": "@PIECES", "runAfter": {}},
        "J": {"type": "JavaScriptCode", "inputs": {"code": "return workflowContext.actions.C.outputs.map(it => it + '!');"}, "runAfter": {"C": ["Succeeded"]}},
        "K": {"type": "JavaScriptCode", "inputs": {"code": "throw new Error(workflowContext.actions.C.outputs[0]);"}, "runAfter": {"J": ["Succeeded"]}},
        "F": {"type": "Foreach", "foreach": "@body('J')", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"K": ["Failed"]}}}"#),
    case("child", r#""actions": {"F": {"type": "Foreach", "foreach": "@triggerBody()", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "R": {"type": "Response", "inputs": {"statusCode": 200, "body": "@triggerBody()"}, "runAfter": {"F": ["Succeeded"]}}}"#).using_other_secrets(),
    case("parent", r#""actions": {"W": {"type": "Workflow", "inputs": {"host": {"workflow": {"id": "child"}, "triggerName": "manual"}, "body": "@PIECES"}, "runAfter": {}},
        "A": {"type": "Foreach", "foreach": "@body('W')", "actions": {"A1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"W": ["Succeeded"]}}}"#).needs_server(),
    case("split-on", r#""triggers": {"manual": {"type": "Request", "splitOn": "@PIECES"}}, "actions": {"A": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}"#).runs(3),
    case("tracking-id", r#""triggers": {"manual": {"type": "Request", "correlation": {"clientTrackingId": "@{PIECES[0]}"}}}, "actions": {"H": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/ok"}, "runAfter": {}}}"#),
    case("tracked", r#""actions": {"A": {"type": "Compose", "inputs": 1, "trackedProperties": {"p": "@PIECES[0]"}, "runAfter": {}}}"#),
    case("secure-outputs", r#""actions": {"Scope": {"type": "Scope", "actions": {"Sec": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/given/CASE"}, "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}, "runAfter": {}}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@outputs(concat('Se', 'c'))?['body']", "runAfter": {"Scope": ["Succeeded"]}},
        "B": {"type": "Compose", "inputs": "@result('Scope')", "runAfter": {"Scope": ["Succeeded"]}},
        "F": {"type": "Foreach", "foreach": "@outputs(concat('Se', 'c'))?['body']?['pieces']", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"Scope": ["Succeeded"]}},
        "T": {"type": "Terminate", "inputs": {"runStatus": "Failed", "runError": {"code": "@{outputs(concat('Se', 'c'))?['body']?['pieces'][0]}", "message": "@{outputs(concat('Se', 'c'))?['body']?['whole']}"}}, "runAfter": {"F": ["Succeeded"], "A": ["Succeeded"], "B": ["Succeeded"]}}}"#),
    case("secure-inputs", r#""actions": {"Sec": {"type": "Http", "inputs": {"method": "GET", "uri": "SERVICE/given/CASE"}, "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}, "runAfter": {}},
        "Cut": {"type": "Compose", "inputs": "@body(concat('Se', 'c'))?['pieces']", "runtimeConfiguration": {"secureData": {"properties": ["inputs"]}}, "runAfter": {"Sec": ["Succeeded"]}},
        "D": {"type": "Compose", "inputs": "@outputs(concat('Cu', 't'))[0]", "runAfter": {"Cut": ["Succeeded"]}}}"#),
    case("app-setting", r#""actions": {"A": {"type": "Compose", "inputs": "@split(appsetting('API_KEY'), '-')", "runAfter": {}}}"#),
    case("connection-string", r#""actions": {"A": {"type": "Compose", "inputs": "@split(appsetting('Sql'), '-')", "runAfter": {}}}"#),
    case("listed-setting", r#""actions": {"A": {"type": "Compose", "inputs": "@split(appsetting('Plain'), '-')", "runAfter": {}}}"#),
    case("secure-string", r#""parameters": {"text": {"type": "SecureString"}}, "actions": {"F": {"type": "Foreach", "foreach": "@split(parameters('text'), '-')", "actions": {"A": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}}}"#),
    case("secure-object", r#""parameters": {"object": {"type": "SecureObject"}}, "actions": {"F": {"type": "Foreach", "foreach": "@parameters('object')?['list']", "actions": {"A": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {}},
        "B": {"type": "Compose", "inputs": "@parameters('object')['nope']", "runAfter": {"F": ["Succeeded"]}}}"#),
    case("echo", r#""actions": {"H": {"type": "Http", "inputs": {"method": "POST", "uri": "SERVICE/echo", "body": {"whole": "@SECRET", "code": "@base64(SECRET)", "basic": "@base64(concat('user:', SECRET))"}}, "runAfter": {}}}"#),
    case("webhook", r#""actions": {"W": {"type": "HttpWebhook", "inputs": {"subscribe": {"method": "POST", "uri": "@concat('htp:/', PIECES[0])"}, "unsubscribe": {}}, "runAfter": {}}}"#),
    case("retry-action", r#""actions": {"R": {"type": "Retry", "inputs": {"retryPolicy": {"type": "fixed", "count": 1, "interval": "PT0S"}}, "actions": {"A": {"type": "Compose", "inputs": "@int(PIECES[0])", "runAfter": {}}}, "runAfter": {}}}"#),
    case("date-helper", r#""actions": {"E": {"type": "Expression", "kind": "ConvertTimeZone", "inputs": {"baseTime": "@{PIECES[0]}", "sourceTimeZone": "UTC", "destinationTimeZone": "@{PIECES[1]}"}, "runAfter": {}}}"#),
    case("chunk-text", r#""actions": {"C": {"type": "ChunkText", "inputs": {"chunkingStrategy": "TokenSize", "text": "@PIECES[0]", "encodingModel": "cl100k_base", "tokenSize": 100, "pageOverlapLength": 0}, "runAfter": {}},
        "D": {"type": "Foreach", "foreach": "@body('C')?['value']", "actions": {"D1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"C": ["Succeeded"]}},
        "E": {"type": "ChunkText", "inputs": {"chunkingStrategy": "@{PIECES[1]}", "text": "a"}, "runAfter": {}}}"#),
    case("missing-map", r#""actions": {"L": {"type": "Liquid", "kind": "JsonToJson", "inputs": {"content": {"a": 1}, "integrationAccount": {"map": {"name": "@{PIECES[0]}"}}}, "runAfter": {}}}"#),
    case("until-fails", r#""actions": {"U": {"type": "Until", "expression": "@equals(int(PIECES[0]), 1)", "limit": {"count": 2, "timeout": "PT1M"}, "actions": {"A": {"type": "Compose", "inputs": 1, "runAfter": {}}}, "runAfter": {}}}"#),
    case("if-fails", r#""actions": {"I": {"type": "If", "expression": {"and": [{"greater": ["@int(PIECES[0])", 1]}]}, "actions": {}, "else": {"actions": {}}, "runAfter": {}}}"#),
    case("connection-webhook", r#""actions": {"W": {"type": "ApiConnectionWebhook", "inputs": {"host": {"connection": {"name": "@{PIECES[0]}"}}, "path": "/x", "body": {"u": "@{listCallbackUrl()}"}}, "runAfter": {}}}"#),
    case("run-outputs", r#""actions": {"A": {"type": "Compose", "inputs": "@PIECES", "runAfter": {}}}, "outputs": {"o": {"type": "Array", "value": "@outputs('A')"}}"#),
    case("actor", r#""actions": {"A": {"type": "Actor", "inputs": {"actorType": "@{PIECES[0]}", "method": "@{PIECES[1]}"}, "runAfter": {}}, "B": {"type": "Activity", "inputs": {"activityName": "@{PIECES[0]}"}, "runAfter": {}}}"#),
    case("collector", r#""triggers": {"manual": {"type": "Batch", "inputs": {"mode": "Inline", "configurations": {"b": {"releaseCriteria": {"messageCount": 1}}}}}}, "actions": {"F": {"type": "Foreach", "foreach": "@triggerBody()['items']", "actions": {"A": {"type": "Compose", "inputs": "@item()['content']", "runAfter": {}}}, "runAfter": {}}}"#).using_other_secrets(),
    case("sender", r#""actions": {"S": {"type": "SendToBatch", "inputs": {"batchName": "b", "content": "@PIECES[0]", "host": {"triggerName": "manual", "workflow": {"id": "collector"}}}, "runAfter": {}}}"#).needs_server(),
    case("poll", r#""triggers": {"manual": {"type": "Http", "recurrence": {"frequency": "Hour", "interval": 1}, "inputs": {"method": "GET", "uri": "@concat('htp:/', PIECES[0])"}}}, "actions": {}"#).runs(0),
    case("condition", r#""triggers": {"manual": {"type": "Request", "conditions": [{"expression": "@greater(int(PIECES[0]), 1)"}]}}, "actions": {}"#).refused().runs(0),
    case("signal", r#""actions": {"W": {"type": "WaitForSignal", "inputs": {"name": "@{PIECES[0]}"}, "limit": {"timeout": "PT1S"}, "runAfter": {}}}"#),
    case("service-provider", r#""actions": {"S": {"type": "ServiceProvider", "inputs": {"parameters": {"text": "@PIECES[0]", "list": "@PIECES"},
            "serviceProviderConfiguration": {"connectionName": "provider", "operationId": "ok", "serviceProviderId": "/serviceProviders/serviceBus"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@PIECES[1]", "runAfter": {"S": ["Succeeded"]}}}"#),
    case("service-provider-operation", r#""actions": {"S": {"type": "ServiceProvider", "inputs": {"parameters": {},
            "serviceProviderConfiguration": {"connectionName": "provider", "operationId": "@{PIECES[0]}", "serviceProviderId": "/serviceProviders/serviceBus"}}, "runAfter": {}}}"#),
    case("open-api-connection", r#""actions": {"S": {"type": "OpenApiConnection", "inputs": {"parameters": {"text": "@PIECES[0]", "list": "@PIECES"},
            "host": {"connectionName": "provider", "operationId": "ok", "apiId": "/providers/Microsoft.PowerApps/apis/shared_provider"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@PIECES[1]", "runAfter": {"S": ["Succeeded"]}}}"#),
    case("api-connection", r#""actions": {"S": {"type": "ApiConnection", "inputs": {"host": {"connection": {"name": "provider"}}, "method": "post", "path": "/ok/@{PIECES[0]}", "body": "@PIECES"}, "runAfter": {}}}"#),
    case("invoke-function", r#""actions": {"F": {"type": "InvokeFunction", "inputs": {"functionName": "echo", "parameters": {"text": "@PIECES[0]", "list": "@PIECES"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@PIECES[1]", "runAfter": {"F": ["Succeeded"]}}}"#),
    case("liquid", r#""actions": {"L": {"type": "Liquid", "kind": "JsonToJson", "inputs": {"content": {"list": "@PIECES"}, "map": {"source": "LogicApp", "name": "list.liquid"}}, "runAfter": {}},
        "F": {"type": "Foreach", "foreach": "@body('L')?['list']", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"L": ["Succeeded"]}}}"#),
    case("xslt", r#""actions": {"X": {"type": "Xslt", "inputs": {"content": "@concat('<a>', PIECES[0], '</a>')", "map": {"source": "LogicApp", "name": "copy.xslt"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@xpath(xml(body('X')), 'string(//b)')", "runAfter": {"X": ["Succeeded"]}}}"#),
    case("xml", r#""actions": {"P": {"type": "XmlParse", "inputs": {"content": "@concat('<a>', PIECES[0], '</a>')", "schema": {"source": "LogicApp", "name": "a.xsd"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@body('P')?['a']", "runAfter": {"P": ["Succeeded"]}},
        "C": {"type": "XmlCompose", "inputs": {"content": "@json(concat('{\"a\":\"', PIECES[1], '\"}'))", "schema": {"name": "a.xsd"}}, "runAfter": {"A": ["Succeeded"]}},
        "V": {"type": "XmlValidation", "inputs": {"content": "@concat('<b>', PIECES[2], '</b>')", "schema": {"source": "LogicApp", "name": "a.xsd"}}, "runAfter": {"C": ["Succeeded"]}}}"#),
    case("flat-file", r#""actions": {"R": {"type": "FlatFileDecoding", "inputs": {"content": "@concat(PIECES[0], ',1')", "schema": {"name": "rows.xsd"}}, "runAfter": {}},
        "A": {"type": "Compose", "inputs": "@xpath(xml(body('R')), 'string(//Name)')", "runAfter": {"R": ["Succeeded"]}},
        "W": {"type": "FlatFileEncoding", "inputs": {"content": "@body('R')", "schema": {"name": "rows.xsd"}}, "runAfter": {"A": ["Succeeded"]}}}"#),
    case("memory", r#""memory": {"write": ["global"]}, "actions": {
        "S": {"type": "Memory", "inputs": {"operation": "set", "key": "global/value", "value": "@PIECES[0]"}, "runAfter": {}},
        "L": {"type": "Memory", "inputs": {"operation": "append", "key": "global/list", "values": "@PIECES"}, "runAfter": {"S": ["Succeeded"]}},
        "H": {"type": "Memory", "inputs": {"operation": "hashSet", "key": "global/hash", "field": "f", "value": "@PIECES[1]"}, "runAfter": {"L": ["Succeeded"]}},
        "R": {"type": "Compose", "inputs": "@memory('global/value')", "runAfter": {"H": ["Succeeded"]}},
        "F": {"type": "Foreach", "foreach": "@memoryList('global/list')", "actions": {"F1": {"type": "Compose", "inputs": "@item()", "runAfter": {}}}, "runAfter": {"H": ["Succeeded"]}},
        "W": {"type": "Memory", "inputs": {"operation": "set", "key": "global/@{PIECES[2]}", "value": 1}, "runAfter": {"H": ["Succeeded"]}}}"#),
    case("memory-changed", r#""triggers": {"manual": {"type": "MemoryChanged", "inputs": {"namespace": "global", "prefix": "value"}}}, "actions": {"A": {"type": "Compose", "inputs": "@triggerBody()", "runAfter": {}}}"#).using_other_secrets(),
    case("actor-state", r#""actions": {"A": {"type": "Actor", "inputs": {"actorType": "keeper", "method": "keep", "args": "@PIECES"}, "runtimeConfiguration": {"secureData": {"properties": ["outputs"]}}, "runAfter": {}},
        "B": {"type": "Actor", "inputs": {"actorType": "keeper", "method": "fail", "args": "@PIECES"}, "runAfter": {"A": ["Succeeded"]}},
        "C": {"type": "Compose", "inputs": "@body(concat('', 'A'))[1]", "runAfter": {"A": ["Succeeded"]}}}"#),
];
