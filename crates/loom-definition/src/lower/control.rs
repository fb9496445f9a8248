//! Lowers control actions: conditions, switches, loops, scopes, waits, Response and Terminate.

use std::sync::Arc;

use loom_expression::{Template, Value};

use super::{Lowerer, declarations::missing, outline::Type, paths::Timing, resilience::holds_expression};
use crate::{
    diagnostic::{code, did_you_mean},
    duration::Span,
    findings::head,
    model::{ActionIdx, ActionKind, BlockIdx, BlockRole, Case, Loop, LoopStyle, REPETITIONS_MAX, Setting},
    status::RunStatus,
    text::{Node, Number, Shape},
};

impl<'a> Lowerer<'a, '_, '_> {
    /// Lowers what the action does.
    pub(super) fn action_kind(&mut self, index: usize) -> ActionKind {
        let kind = self.outline.actions[index].kind;
        if let Some(made) = self.outline.actions[index].made {
            return self.made(index, made);
        }
        match kind {
            Type::If => self.if_action(index),
            Type::Switch => self.switch(index),
            Type::Scope => ActionKind::Scope { body: self.child(index, BlockRole::Body) },
            Type::Parallel => {
                let branches: Vec<BlockIdx> =
                    self.outline.actions[index].children.iter().map(|(_, block)| *block).collect();
                if branches.is_empty() {
                    self.lack(index, "inputs.branches");
                }
                ActionKind::Parallel { branches }
            }
            Type::Foreach => self.foreach(index),
            Type::Until | Type::While | Type::DoUntil => self.conditional_loop(index, kind),
            Type::Retry => {
                let node = self.outline.actions[index].node;
                let policy = self.retry_action_policy(node, index);
                let body = self.child(index, BlockRole::Body);
                if self.outline.blocks[body.0 as usize].actions.is_empty() {
                    self.lack(index, "inputs.action");
                }
                ActionKind::Retry { body, policy }
            }
            Type::Terminate => self.terminate(index),
            Type::Response => self.response(index),
            Type::Wait => self.wait(index),
            Type::Agent | Type::GroupChat => self.agent(index),
            Type::Emit => self.emit(index),
            Type::Effect => self.effect(index),
            _ => self.data_action(index, kind),
        }
    }

    /// The block of `action` in `role`.
    pub(super) fn child(&self, action: usize, role: BlockRole) -> BlockIdx {
        self.outline.actions[action]
            .children
            .iter()
            .find(|(found, _)| *found == role)
            .map(|(_, block)| *block)
            .expect("the outline gave every block action its blocks")
    }

    pub(super) fn lack(&mut self, action: usize, what: &str) {
        let outlined = &self.outline.actions[action];
        let (node, name) = (outlined.node, Arc::clone(&outlined.name));
        missing(self.found, node, what, &name);
    }

    /// A part of a control action: its property `outer`, or else the first of `inner` in its inputs.
    pub(super) fn control_part(&self, action: usize, outer: &str, inner: &[&str]) -> Option<&'a Node> {
        let node = self.outline.actions[action].node;
        node.get(outer).or_else(|| {
            let inputs = node.get("inputs")?;
            inner.iter().find_map(|name| inputs.get(name))
        })
    }

    fn if_action(&mut self, index: usize) -> ActionKind {
        let condition =
            if let Some(node) = self.control_part(index, "expression", &["condition", "expression"]) {
                self.condition(node, Some(index))
            } else {
                self.lack(index, "expression");
                self.no_condition()
            };
        ActionKind::If {
            condition,
            then: self.child(index, BlockRole::Body),
            otherwise: self.child(index, BlockRole::Else),
        }
    }

    fn switch(&mut self, index: usize) -> ActionKind {
        let on = if let Some(node) = self.control_part(index, "expression", &["expression", "on"]) {
            self.template(node, index)
        } else {
            self.lack(index, "expression");
            Template::constant(Value::NULL)
        };
        let case_map = self.control_part(index, "cases", &["cases"]);
        if let Some(map) = case_map {
            self.found.want_object(map, "cases");
        }
        let members = case_map.and_then(Node::members).unwrap_or_default();
        if members.len() > 25 {
            let message = format!("a Switch must have at most 25 cases (got {})", members.len());
            let place = members[25].name_place;
            self.found.error(code::BAD_SWITCH, place, message).label = "the 26th case".into();
        }
        let mut cases: Vec<Case> = Vec::new();
        for (place, member) in members.iter().enumerate() {
            let block = self.child(index, BlockRole::Case(place as u32));
            let Some(node) = member.value.get("case") else {
                let message = format!("case `{}` needs a `case` with the value to match", member.name);
                self.found.error(code::BAD_SWITCH, member.name_place, message);
                continue;
            };
            let template = self.template(node, index);
            let literal =
                template.as_constant().filter(|value| value.as_str().is_some() || value.as_i64().is_some());
            let Some(value) = literal.cloned() else {
                let message = format!("the `case` of `{}` must be a literal string or integer", member.name);
                self.found.error(code::BAD_SWITCH, node.place, message);
                continue;
            };
            if let Some(same) = cases.iter().find(|case| case.value == value) {
                let message = format!("cases `{}` and `{}` have the same value", same.name, member.name);
                self.found.error(code::BAD_SWITCH, node.place, message);
            }
            cases.push(Case { name: Arc::clone(&member.name), value, block });
        }
        let default = self.outline.actions[index]
            .children
            .iter()
            .find(|(role, _)| *role == BlockRole::Default)
            .map(|(_, block)| *block);
        ActionKind::Switch { on, cases, default }
    }

    fn foreach(&mut self, index: usize) -> ActionKind {
        let items = if let Some(node) = self.control_part(index, "foreach", &["items", "foreach"]) {
            self.template(node, index)
        } else {
            self.lack(index, "foreach");
            Template::constant(Value::NULL)
        };
        let node = self.outline.actions[index].node;
        let nested = self
            .outline
            .enclosing(ActionIdx(index as u32))
            .any(|action| self.outline.outlined(action).kind == Type::Foreach);
        let asked = self.repetitions(node, index);
        ActionKind::Foreach {
            items,
            body: self.child(index, BlockRole::Body),
            concurrency: if nested { Setting::Fixed(1) } else { asked },
        }
    }

    /// The most iterations at once, from `Sequential` or `concurrency.repetitions`; 20 by default.
    fn repetitions(&mut self, node: &Node, owner: usize) -> Setting<u32> {
        let sequential = has_option(node, "Sequential");
        let inputs = node.get("inputs");
        let concurrency = node
            .get("runtimeConfiguration")
            .and_then(|runtime| runtime.get("concurrency"))
            .or_else(|| inputs.and_then(|inputs| inputs.get("concurrency")));
        let Some(concurrency) = concurrency else {
            return Setting::Fixed(if sequential { 1 } else { 20 });
        };
        if sequential {
            let message =
                "`Sequential` and `concurrency` both limit the iterations that run at once; keep one of them";
            self.found.error(code::BAD_CONCURRENCY, concurrency.place, message);
        }
        let repetitions =
            if concurrency.members().is_some() { concurrency.get("repetitions") } else { Some(concurrency) };
        let Some(repetitions) = repetitions else { return Setting::Fixed(20) };
        if holds_expression(repetitions) {
            return Setting::Computed(self.template(repetitions, owner));
        }
        let most = REPETITIONS_MAX;
        match repetitions.integer() {
            Some(count) if (1..=i64::from(most)).contains(&count) => Setting::Fixed(count as u32),
            Some(count) => {
                let message = format!("`repetitions` must be between 1 and {most} (got {count})");
                self.found.error(code::BAD_CONCURRENCY, repetitions.place, message);
                Setting::Fixed(1)
            }
            None => {
                let message = format!(
                    "`repetitions` must be an integer between 1 and {most}, found {}",
                    repetitions.kind()
                );
                self.found.error(code::BAD_CONCURRENCY, repetitions.place, message);
                Setting::Fixed(1)
            }
        }
    }

    fn conditional_loop(&mut self, index: usize, kind: Type) -> ActionKind {
        let outlined = &self.outline.actions[index];
        let (node, loom_spelling) = (outlined.node, outlined.loom_spelling);
        let condition =
            if let Some(node) = self.control_part(index, "expression", &["condition", "expression"]) {
                self.timing = Timing::Iteration;
                let condition = self.condition(node, Some(index));
                self.timing = Timing::Before;
                condition
            } else {
                self.lack(index, if loom_spelling { "inputs.condition" } else { "expression" });
                self.no_condition()
            };
        let (count, timeout) = self.loop_limits(node, kind, loom_spelling, index);
        let inputs = node.get("inputs");
        let delay = inputs.and_then(|inputs| inputs.get("delay")).or_else(|| node.get("delay"));
        let delay = delay.and_then(|delay| self.loop_delay(delay, index));
        ActionKind::Loop(Box::new(Loop {
            style: match kind {
                Type::While => LoopStyle::While,
                Type::DoUntil => LoopStyle::DoUntil,
                _ => LoopStyle::Until,
            },
            condition,
            body: self.child(index, BlockRole::Body),
            count,
            timeout,
            delay,
            loom_spelling,
        }))
    }

    /// Reads a delay: `{interval: {count, unit}}`, a duration, or milliseconds.
    fn loop_delay(&mut self, node: &Node, owner: usize) -> Option<Setting<Span>> {
        let Some(interval) = node.get("interval").or_else(|| node.members().map(|_| node)) else {
            return self.span_setting(node, "delay", true, Some(owner));
        };
        if interval.members().is_none() {
            return self.span_setting(interval, "delay.interval", true, Some(owner));
        }
        let count = interval.get("count").and_then(Node::integer);
        let unit = interval.get("unit").and_then(Node::text).unwrap_or("second");
        let seconds = match unit.to_ascii_lowercase().trim_end_matches('s') {
            "second" => 1,
            "minute" => 60,
            "hour" => 3_600,
            "day" => 86_400,
            _ => {
                let place = interval.get("unit").map_or(interval.place, |unit| unit.place);
                let message = format!("unknown unit `{unit}` in a delay");
                let hint = did_you_mean(unit, ["second", "minute", "hour", "day"]);
                self.found.error(code::BAD_CHOICE, place, message).hint = hint;
                return None;
            }
        };
        if let Some(seconds) =
            count.and_then(|count| u64::try_from(count).ok()).and_then(|count| count.checked_mul(seconds))
        {
            Some(Setting::Fixed(Span::exact(std::time::Duration::from_secs(seconds))))
        } else {
            let place = interval.get("count").map_or(interval.place, |count| count.place);
            self.found.error(
                code::OUT_OF_RANGE,
                place,
                "`delay.interval.count` must be a non-negative integer",
            );
            None
        }
    }

    /// Reports the action if a loop encloses it.
    fn refuse_in_loops(&mut self, index: usize) {
        let this = ActionIdx(index as u32);
        let enclosing =
            self.outline.enclosing(this).find(|action| self.outline.outlined(*action).kind.is_loop());
        let Some(enclosing) = enclosing else { return };
        let (outlined, enclosing) = (self.outline.outlined(this), self.outline.outlined(enclosing));
        let message = format!(
            "`{}` is a {}, which is not allowed inside the loop `{}`",
            outlined.name, outlined.type_name, enclosing.name
        );
        let related = (enclosing.name_place.range(), "the loop".to_owned());
        let place = outlined.name_place;
        let diagnostic = self.found.error(code::NOT_ALLOWED_HERE, place, message);
        diagnostic.related.push(related);
        diagnostic.hint = Some("set a variable in the loop, and check it after the loop".to_owned());
    }

    fn terminate(&mut self, index: usize) -> ActionKind {
        self.refuse_in_loops(index);
        let node = self.outline.actions[index].node;
        let inputs = node.get("inputs");
        let status = match inputs.and_then(|inputs| inputs.get("runStatus")) {
            None => {
                self.lack(index, "inputs.runStatus");
                Setting::Fixed(RunStatus::Failed)
            }
            Some(node) if holds_expression(node) => Setting::Computed(self.template(node, index)),
            Some(node) => {
                let text = node.text().unwrap_or_default();
                if let Some(found @ (RunStatus::Succeeded | RunStatus::Failed | RunStatus::Cancelled)) =
                    RunStatus::parse(text)
                {
                    Setting::Fixed(found)
                } else {
                    let message =
                        format!("`runStatus` must be `Succeeded`, `Failed` or `Cancelled` (got `{text}`)");
                    let hint = did_you_mean(text, ["Succeeded", "Failed", "Cancelled"]);
                    self.found.error(code::BAD_TERMINATE, node.place, message).hint = hint;
                    Setting::Fixed(RunStatus::Failed)
                }
            }
        };
        let error = inputs.and_then(|inputs| inputs.get("runError"));
        if let (Some(error), Setting::Fixed(RunStatus::Succeeded | RunStatus::Cancelled)) = (error, &status) {
            let message = "`runError` is only used with the status `Failed`; it is ignored here";
            self.found.warning(code::BAD_TERMINATE, error.place, message);
        }
        ActionKind::Terminate { status, error: error.map(|node| self.template(node, index)) }
    }

    fn response(&mut self, index: usize) -> ActionKind {
        self.refuse_in_loops(index);
        let node = self.outline.actions[index].node;
        let Some(inputs) = node.get("inputs") else {
            return ActionKind::Response {
                inputs: Template::constant(Value::from(loom_expression::Object::new())),
            };
        };
        if let Some(status) = inputs.get("statusCode")
            && let Some(code) = status.integer().or_else(|| status.text().and_then(|text| text.parse().ok()))
            && !matches!(code, 200..=299 | 400..=599)
        {
            let message = format!("the status of a Response must be 2xx, 4xx or 5xx (got {code})");
            self.found.warning(code::OUT_OF_RANGE, status.place, message);
        }
        // The schema is documentation; strings in it are not expressions.
        let mut value = inputs.to_value();
        if let Some(mut object) = value.as_object().cloned()
            && let Some(name) = object.name_ignore_case("schema").cloned()
        {
            object.remove(&name);
            value = Value::from(object);
        }
        ActionKind::Response { inputs: self.template_of(inputs, &value, Some(index)) }
    }

    fn wait(&mut self, index: usize) -> ActionKind {
        let node = self.outline.actions[index].node;
        let Some(inputs) = node.get("inputs") else {
            self.lack(index, "inputs");
            return ActionKind::Wait { inputs: Template::constant(Value::NULL) };
        };
        let (interval, until) = (inputs.get("interval"), inputs.get("until"));
        match (interval, until) {
            (Some(_), Some(until)) => {
                let message = "a Wait takes `interval` or `until`, not both";
                self.found.error(code::BAD_WAIT, until.place, message);
            }
            (None, None) if inputs.members().is_some() => {
                let message = "a Wait needs `interval` with `count` and `unit`, or `until` with `timestamp`";
                self.found.error(code::BAD_WAIT, head(inputs), message);
            }
            (Some(interval), None) if interval.members().is_some() => {
                for part in ["count", "unit"] {
                    if interval.get(part).is_none() {
                        let message = format!("the `interval` of a Wait needs `{part}`");
                        self.found.error(code::BAD_WAIT, head(interval), message);
                    }
                }
                if let Some(unit) = interval.get("unit").filter(|unit| !holds_expression(unit)) {
                    let text = unit.text().unwrap_or_default();
                    let units = ["Second", "Minute", "Hour", "Day", "Week", "Month"];
                    if !units
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(text.trim_end_matches(['s', 'S'])))
                    {
                        let message = format!("unknown unit `{text}` in a Wait");
                        self.found.error(code::BAD_WAIT, unit.place, message).hint =
                            did_you_mean(text, units);
                    }
                }
                if let Some(count) = interval
                    .get("count")
                    .filter(|count| matches!(count.shape, Shape::Number(Number::Integer(value)) if value < 0))
                {
                    self.found.error(code::BAD_WAIT, count.place, "`interval.count` must not be negative");
                }
            }
            (None, Some(until)) if until.members().is_some() && until.get("timestamp").is_none() => {
                self.found.error(code::BAD_WAIT, head(until), "the `until` of a Wait needs `timestamp`");
            }
            _ => {}
        }
        ActionKind::Wait { inputs: self.template(inputs, index) }
    }
}

/// Whether `operationOptions` has `option`.
pub(super) fn has_option(node: &Node, option: &str) -> bool {
    node.get("operationOptions")
        .and_then(Node::text)
        .is_some_and(|list| list.split(',').any(|word| word.trim().eq_ignore_ascii_case(option)))
}
