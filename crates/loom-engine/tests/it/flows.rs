//! Random workflow definitions: nested blocks, loops, branches, calls with every kind of policy, waits, variables.
//!
//! The same seed yields the same definition, so a failure can be repeated with its seed.

use std::fmt::Write;

use loom_store::contract::Seeded;

/// The parameters of random definitions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taste {
    /// Approximate number of actions.
    pub(crate) actions: u32,
    /// Maximum nesting of blocks.
    pub(crate) depth: u32,
    /// Whether to include breakers, rate limits and bulkheads, whose state is lost with the process.
    pub(crate) guards: bool,
    /// Whether to include `Terminate` and `Response`.
    pub(crate) ends: bool,
    /// Whether to include calls whose inputs a person has to approve if the body of the trigger is untrusted.
    pub(crate) people: bool,
}

/// A random definition, whose calls go to `http://s0` … `http://s3`, to webhooks, and to the workflow `child`.
pub(crate) fn definition(random: &mut Seeded, taste: Taste) -> String {
    let mut flow = Flow { random, taste, left: taste.actions, names: 0, responded: false };
    let body = flow.block(0, false);
    format!(
        r#"{{"triggers": {{"manual": {{"type": "Request"}}}},
            "actions": {{
              "n": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "n", "type": "integer", "value": 0}}]}}, "runAfter": {{}}}},
              "list": {{"type": "InitializeVariable", "inputs": {{"variables": [{{"name": "list", "type": "array", "value": []}}]}}, "runAfter": {{"n": ["Succeeded"]}}}}{body}}},
            "outputs": {{"n": {{"type": "int", "value": "@variables('n')"}}, "list": {{"type": "array", "value": "@variables('list')"}}}}}}"#
    )
}

/// The child workflow: it responds after a call of its own.
pub(crate) const CHILD: &str = r#"{"triggers": {"manual": {"type": "Request"}}, "actions": {
    "Ask": {"type": "Http", "inputs": {"method": "GET", "uri": "http://s0/child", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT5S"}}, "limit": {"timeout": "PT2M"}, "runAfter": {}},
    "Answer": {"type": "Response", "inputs": {"statusCode": 200, "body": "@outputs('Ask')"}, "runAfter": {"Ask": ["Succeeded"]}}}}"#;

/// What keeps an action from sending untrusted data.
pub(crate) const NEEDS_APPROVAL: &str = r#""acceptsUntrusted": false, "#;

struct Flow<'r> {
    random: &'r mut Seeded,
    taste: Taste,
    left: u32,
    names: u32,
    responded: bool,
}

impl Flow<'_> {
    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.random.one_in(times)
    }

    /// The actions of a block. Those of the workflow itself follow the variables; `looped` is set inside a loop.
    fn block(&mut self, depth: u32, looped: bool) -> String {
        let wanted = 1 + self.random.below(if depth == 0 { 7 } else { 3 }) as u32;
        let mut text = String::new();
        let mut names: Vec<String> = Vec::new();
        for place in 0..wanted {
            if self.left == 0 && place > 0 {
                break;
            }
            self.left = self.left.saturating_sub(1);
            self.names += 1;
            let name = format!("A{}", self.names);
            let after = self.run_after(depth, &names);
            let action = self.action(&name, depth, looped);
            if depth == 0 || place > 0 {
                text.push_str(", ");
            }
            write!(text, r#""{name}": {{"runAfter": {{{after}}}, {action}}}"#).unwrap();
            names.push(name);
        }
        text
    }

    fn run_after(&mut self, depth: u32, earlier: &[String]) -> String {
        let mut after: Vec<String> = Vec::new();
        if depth == 0 {
            after.push(r#""list": ["Succeeded"]"#.to_owned());
        }
        let count = self.random.below(3).min(earlier.len() as u64);
        let first = self.random.below(earlier.len().max(1) as u64) as usize;
        for place in 0..count as usize {
            let target = &earlier[(first + place) % earlier.len()];
            let statuses = match self.random.below(8) {
                0..=3 => r#""Succeeded""#,
                4 => r#""Succeeded", "Failed", "Skipped", "TimedOut""#,
                5 => r#""Failed", "TimedOut""#,
                6 => r#""Skipped", "Failed""#,
                _ => r#""Succeeded", "TimedOut""#,
            };
            after.push(format!(r#""{target}": [{statuses}]"#));
        }
        after.join(", ")
    }

    fn action(&mut self, name: &str, depth: u32, looped: bool) -> String {
        let deep = depth >= self.taste.depth || self.left == 0;
        match self.random.below(if deep { 14 } else { 24 }) {
            0..=5 => self.call(name),
            6 => self.webhook(name),
            7 => self.wait(),
            8 => r#""type": "IncrementVariable", "inputs": {"name": "n", "value": 1}"#.to_owned(),
            9 => {
                format!(r#""type": "AppendToArrayVariable", "inputs": {{"name": "list", "value": "{name}"}}"#)
            }
            10 => self.compose(),
            11 => r#""type": "Workflow", "inputs": {"host": {"workflow": {"id": "child"}}, "retryPolicy": {"type": "none"}}, "limit": {"timeout": "PT10M"}"#.to_owned(),
            12 if self.taste.ends && !looped && self.one_in(4) => {
                let status = self.pick(&["Succeeded", "Failed", "Cancelled"]);
                format!(r#""type": "Terminate", "inputs": {{"runStatus": "{status}"}}"#)
            }
            13 if self.taste.ends && !looped && !self.responded => {
                self.responded = true;
                r#""type": "Response", "inputs": {"statusCode": 200, "body": "@variables('n')"}"#.to_owned()
            }
            12 | 13 => self.compose(),
            14 | 15 => {
                let (actions, limit, guards) =
                    (self.block(depth + 1, looped), self.limit(6), self.scope_policies(name));
                format!(r#""type": "Scope", "actions": {{{actions}}}{limit}{guards}"#)
            }
            16 => {
                let then = self.block(depth + 1, looped);
                let otherwise = self.block(depth + 1, looped);
                let least = self.random.below(3);
                format!(
                    r#""type": "If", "expression": {{"and": [{{"greaterOrEquals": ["@variables('n')", {least}]}}]}}, "actions": {{{then}}}, "else": {{"actions": {{{otherwise}}}}}"#
                )
            }
            17 => {
                let (one, other) =
                    (self.block(depth + 1, looped), self.block(depth + 1, looped));
                format!(
                    r#""type": "Switch", "expression": "@mod(variables('n'), 3)", "cases": {{"Zero": {{"case": 0, "actions": {{{one}}}}}, "One": {{"case": 1, "actions": {{}}}}}}, "default": {{"actions": {{{other}}}}}"#
                )
            }
            18 | 19 => {
                let (items, at_once) = (self.random.below(6), 1 + self.random.below(4));
                let (actions, limit) = (self.block(depth + 1, true), self.limit(6));
                format!(
                    r#""type": "Foreach", "foreach": "@range(0, {items})", "runtimeConfiguration": {{"concurrency": {{"repetitions": {at_once}}}}}, "actions": {{{actions}}}{limit}"#
                )
            }
            20 => {
                let (count, minutes) = (1 + self.random.below(4), 1 + self.random.below(20));
                let actions = self.block(depth + 1, true);
                format!(
                    r#""type": "Until", "expression": "@greater(variables('n'), 4)", "limit": {{"count": {count}, "timeout": "PT{minutes}M"}}, "actions": {{{actions}}}"#
                )
            }
            21 => {
                let kind = self.pick(&["While", "DoUntil"]);
                let (rounds, pause) = (self.random.below(4), self.random.below(90));
                let test = if kind == "While" { "less" } else { "greaterOrEquals" };
                let actions = self.block(depth + 1, true);
                format!(
                    r#""type": "{kind}", "inputs": {{"condition": "@{test}(variables('loopIndex'), {rounds})", "limit": {{"count": 6}}, "delay": {{"interval": {{"count": {pause}, "unit": "Second"}}}}, "actions": {{{actions}}}}}"#
                )
            }
            22 => {
                let branches: Vec<String> = (0..=self.random.below(3))
                    .map(|_| format!(r#"{{"actions": {{{}}}}}"#, self.block(depth + 1, looped)))
                    .collect();
                format!(r#""type": "Parallel", "inputs": {{"branches": [{}]}}"#, branches.join(", "))
            }
            _ => {
                let (actions, attempts) =
                    (self.block(depth + 1, true), 1 + self.random.below(3));
                format!(
                    r#""type": "Retry", "inputs": {{"actions": {{{actions}}}, "retryPolicy": {{"maxAttempts": {attempts}, "initialDelay": 700}}}}"#
                )
            }
        }
    }

    fn compose(&mut self) -> String {
        let value = self.pick(&[
            "@length(variables('list'))",
            "@add(variables('n'), 1)",
            "@guid()",
            "@utcNow()",
            "@rand(1, 100)",
            "@div(1, variables('n'))",
        ]);
        format!(r#""type": "Compose", "inputs": "{value}""#)
    }

    fn wait(&mut self) -> String {
        let (count, unit) = (self.random.below(50), self.pick(&["Second", "Minute"]));
        format!(r#""type": "Wait", "inputs": {{"interval": {{"count": {count}, "unit": "{unit}"}}}}"#)
    }

    fn limit(&mut self, one_in: u64) -> String {
        if !self.one_in(one_in) {
            return String::new();
        }
        format!(r#", "limit": {{"timeout": "PT{}S"}}"#, 1 + self.random.below(400))
    }

    fn call(&mut self, name: &str) -> String {
        if self.taste.people && self.one_in(2) {
            return self.approved_call(name);
        }
        let method = self.pick(&["GET", "POST"]);
        let service = self.random.below(4);
        let retry = match self.random.below(6) {
            0 => "",
            1 | 2 => r#", "retryPolicy": {"type": "none"}"#,
            3 => r#", "retryPolicy": {"type": "fixed", "count": 3, "interval": "PT20S"}"#,
            4 => r#", "retryPolicy": {"type": "fixed", "count": 1, "interval": "PT6S"}"#,
            _ => {
                r#", "retryPolicy": {"type": "exponential", "count": 2, "interval": "PT7S", "minimumInterval": "PT5S", "maximumInterval": "PT1H"}"#
            }
        };
        let own = if retry.is_empty() && self.one_in(2) {
            r#", "retryPolicy": {"maxAttempts": 4, "initialDelay": 300, "maxDelay": 5000, "backoffMultiplier": 3, "jitter": true}"#
        } else {
            ""
        };
        let (limit, guards) = (self.limit(2), self.guards(4));
        format!(
            r#""type": "Http", "inputs": {{"method": "{method}", "uri": "http://s{service}/{name}"{retry}}}{own}{limit}{guards}"#
        )
    }

    fn approved_call(&mut self, name: &str) -> String {
        let (service, minutes) = (self.random.below(4), 1 + self.random.below(60));
        let (default, limit) = (self.pick(&["approve", "reject", "reject"]), self.limit(3));
        format!(
            r#""type": "Http", {NEEDS_APPROVAL}"approval": {{"timeout": "PT{minutes}M", "default": "{default}"}}, "inputs": {{"method": "POST", "uri": "http://s{service}/{name}", "body": "@triggerBody()", "retryPolicy": {{"type": "fixed", "count": 1, "interval": "PT6S"}}}}{limit}"#
        )
    }

    fn webhook(&mut self, name: &str) -> String {
        let limit = self.limit(1);
        format!(
            r#""type": "HttpWebhook", "inputs": {{"subscribe": {{"method": "POST", "uri": "http://hook/{name}", "body": "on", "retryPolicy": {{"type": "fixed", "count": 1, "interval": "PT5S"}}}}, "unsubscribe": {{"method": "POST", "uri": "http://hook/{name}", "body": "off"}}}}{limit}"#
        )
    }

    /// Breaker, rate limit and bulkhead of a call, each with a probability of 1 / `one_in`.
    fn guards(&mut self, one_in: u64) -> String {
        let mut text = String::new();
        if !self.taste.guards {
            return text;
        }
        if self.one_in(one_in) {
            let (failures, open) = (1 + self.random.below(3), 1_000 * (1 + self.random.below(40)));
            write!(text, r#", "circuitBreaker": {{"failureThreshold": {failures}, "successThreshold": 1, "timeout": {open}, "halfOpenRequests": 1}}"#).unwrap();
        }
        if self.one_in(one_in) {
            let requests = 1 + self.random.below(5);
            write!(text, r#", "rateLimit": {{"requests": {requests}, "per": "minute"}}"#).unwrap();
        }
        if self.one_in(one_in) {
            let (at_once, queued) = (1 + self.random.below(2), self.random.below(4));
            write!(text, r#", "bulkhead": {{"maxConcurrent": {at_once}, "maxQueued": {queued}}}"#).unwrap();
        }
        text
    }

    /// Policies of a scope as a whole: retries, or admission to a service.
    fn scope_policies(&mut self, name: &str) -> String {
        let mut text = String::new();
        if self.one_in(5) {
            text.push_str(r#", "retryPolicy": {"maxAttempts": 2, "initialDelay": 2000}"#);
        }
        if self.taste.guards && self.one_in(5) {
            write!(text, r#", "rateLimit": {{"requests": 1, "per": "minute", "name": "{name}"}}"#).unwrap();
        }
        text
    }
}
