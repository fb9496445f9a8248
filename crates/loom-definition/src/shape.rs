//! Finds the definition in a file of any supported shape, and what the file contains outside the definition.

use std::{borrow::Cow, rc::Rc, sync::Arc};

use loom_expression::{Object, Value};

use crate::{
    arm,
    diagnostic::{code, did_you_mean},
    findings::Findings,
    model::{ValueType, Workflow, WorkflowKind, same_name},
    options::LoadOptions,
    text::{Member, Node, Shape},
};

/// The definition in a file, and what the file contains outside it.
pub(crate) struct Chosen<'n> {
    /// The definition, with template expressions resolved.
    pub(crate) definition: Node,
    /// The `kind`, if there is one.
    pub(crate) kind: Option<&'n Node>,
    /// The name of the workflow, if the file has one.
    pub(crate) name: Option<String>,
    /// The `tags` outside the definition, if there are any.
    pub(crate) tags: Option<Node>,
    /// Parameter values, as a map from names to `{value}`.
    values: Option<Node>,
    /// The `connectionReferences`.
    references: Option<&'n Node>,
}

impl Chosen<'_> {
    /// The parameter values and connections that the file contains.
    pub(crate) fn values(&self, workflow: &Workflow, found: &mut Findings<'_>) -> (Object, Value) {
        let mut values = Object::new();
        let mut connections = self.references.map_or(Value::NULL, Node::to_value);
        let Some(map) = &self.values else { return (values, connections) };
        if found.want_object(map, "parameters").is_none() {
            return (values, connections);
        }
        for member in map.members().unwrap_or_default() {
            // A parameter that refers to a key vault has no `value`.
            let Some(value) = member.value.member("value").map(|member| member.value.to_value()) else {
                continue;
            };
            let declared =
                workflow.parameters.iter().any(|parameter| same_name(&parameter.name, &member.name));
            if &*member.name == "$connections" && connections.is_null() {
                connections = value.clone();
            }
            if declared {
                values.insert(&*member.name, value);
            } else if !member.name.starts_with('$') {
                let hint =
                    did_you_mean(&member.name, workflow.parameters.iter().map(|parameter| &*parameter.name));
                let message = format!("undeclared parameter `{}`", member.name);
                found.error(code::PARAMETER_UNDECLARED, member.name_place, message).hint = hint;
            }
        }
        (values, connections)
    }
}

/// Finds the definition to load, or reports why there is none.
pub(crate) fn choose<'n>(
    root: &'n Node,
    options: &'n LoadOptions,
    found: &mut Findings<'_>,
) -> Option<Chosen<'n>> {
    if root.members().is_none() {
        let message = format!("a workflow definition must be an object, found {}", root.kind());
        found.error(code::NOT_A_DEFINITION, root.place, message);
        return None;
    }
    if let Some(resources) = root.get("resources").filter(|resources| is_list_of_resources(root, resources)) {
        return from_template(root, resources, options, found);
    }
    if let Some(properties) = root.get("properties")
        && let Some(definition) = properties.get("definition")
    {
        return wrapped(definition, properties, root, found);
    }
    if let Some(definition) = root.get("definition") {
        return wrapped(definition, root, root, found);
    }
    // The response of the management API for a workflow of the Standard plan contains its files by name.
    if let Some(file) = root.get("properties").and_then(|found| found.get("files")?.get("workflow.json"))
        && let Some(definition) = file.get("definition")
    {
        return wrapped(definition, file, root, found);
    }
    let schema = root.get("$schema").and_then(Node::text).unwrap_or_default();
    if root.get("actions").is_some()
        || root.get("triggers").is_some()
        || schema.contains("workflowdefinition")
    {
        return Some(Chosen {
            definition: root.clone(),
            kind: None,
            name: None,
            tags: None,
            values: None,
            references: None,
        });
    }
    let names: Vec<&str> =
        root.members().unwrap_or_default().iter().take(8).map(|member| &*member.name).collect();
    let message = if names.is_empty() {
        "expected a workflow definition with `triggers` and `actions`, found an empty object".to_owned()
    } else {
        format!(
            "expected a workflow definition with `triggers` and `actions`, found `{}`",
            names.join("`, `")
        )
    };
    let place = crate::text::Span32 { start: root.place.start, end: root.place.start + 1 };
    found.error(code::NOT_A_DEFINITION, place, message).hint = Some(
        "supported are a bare definition, an object with `definition`, an ARM template, a flow export with \
         `properties.definition`, and the files of the management API"
            .to_owned(),
    );
    None
}

/// The names of the workflows in a template; empty for other shapes.
pub(crate) fn names(root: &Node, options: &LoadOptions) -> Vec<String> {
    let Some(resources) = root.get("resources").filter(|resources| is_list_of_resources(root, resources))
    else {
        return Vec::new();
    };
    let mut candidates = Vec::new();
    collect(
        resources,
        &Rc::new(arm::Template::new(root, &options.arm_parameters, &options.deployment)),
        &mut candidates,
        0,
    );
    candidates.into_iter().map(|candidate| candidate.name).collect()
}

/// The parameters that a template declares, with their types; empty for other shapes.
pub(crate) fn template_parameters(root: &Node) -> Vec<(Arc<str>, ValueType)> {
    if root.get("resources").is_none_or(|resources| !is_list_of_resources(root, resources)) {
        return Vec::new();
    }
    let declared = root.get("parameters").and_then(Node::members).unwrap_or_default().iter();
    let kind = |node: &Node| node.get("type").and_then(Node::text).and_then(ValueType::from_name);
    declared.map(|member| (Arc::clone(&member.name), kind(&member.value).unwrap_or(ValueType::Any))).collect()
}

fn wrapped<'n>(
    definition: &'n Node,
    holder: &'n Node,
    root: &'n Node,
    found: &mut Findings<'_>,
) -> Option<Chosen<'n>> {
    found.want_object(definition, "definition")?;
    let name = [root.get("name"), holder.get("displayName")]
        .into_iter()
        .flatten()
        .find_map(Node::text)
        // The management API puts the name of the site in front.
        .map(|name| name.rsplit('/').next().unwrap_or(name))
        .filter(|name| !name.is_empty() && !name.starts_with('['))
        .map(str::to_owned);
    let tags = holder.get("tags").or_else(|| root.get("tags"));
    let tags = match holder.get("displayName").filter(|name| name.text().is_some()) {
        // The tags of a flow contain its display name.
        Some(shown) => Some(with_display_name(tags.or_else(|| definition.get("tags")), shown)),
        None => tags.cloned(),
    };
    Some(Chosen {
        definition: definition.clone(),
        kind: holder.get("kind").or_else(|| root.get("kind")).filter(|kind| kind.text().is_some()),
        name,
        tags,
        values: holder.get("parameters").filter(|values| values.members().is_some()).cloned(),
        references: holder.get("connectionReferences").or_else(|| root.get("connectionReferences")),
    })
}

/// Adds `flowDisplayName` to tags, unless they already have it or are not an object.
fn with_display_name(tags: Option<&Node>, shown: &Node) -> Node {
    let written = tags.map_or_else(|| Value::from(Object::new()), Node::to_value);
    let mut members = match (tags, written.into_object()) {
        (Some(tags), None) => return tags.clone(),
        (_, members) => members.unwrap_or_default(),
    };
    if members.get_ignore_case("flowDisplayName").is_none() {
        members.insert("flowDisplayName", shown.to_value());
    }
    Node::computed(&Value::from(members), shown.place)
}

/// One workflow resource of a template.
struct Candidate<'n> {
    resource: &'n Node,
    definition: Cow<'n, Node>,
    name: String,
    /// The template in which its expressions are evaluated.
    template: Rc<arm::Template<'n>>,
    /// The index of the copy, if the resource has a `copy` loop.
    copy: Option<i64>,
}

/// The most copies of one resource; further ones are ignored.
const COPIES_MAX: i64 = 200;

/// Whether `resources` are those of a template: an array or, in newer templates, an object with symbolic names.
fn is_list_of_resources(root: &Node, resources: &Node) -> bool {
    let schema = root.get("$schema").and_then(Node::text).unwrap_or_default().to_ascii_lowercase();
    resources.items().is_some() || (resources.members().is_some() && schema.contains("deploymenttemplate"))
}

fn from_template<'n>(
    root: &'n Node,
    resources: &'n Node,
    options: &'n LoadOptions,
    found: &mut Findings<'_>,
) -> Option<Chosen<'n>> {
    let template = Rc::new(arm::Template::new(root, &options.arm_parameters, &options.deployment));
    let mut candidates = Vec::new();
    collect(resources, &template, &mut candidates, 0);
    let names = || candidates.iter().map(|candidate| candidate.name.as_str());
    let candidate = match (&options.choose, candidates.as_slice()) {
        (_, []) => {
            let message = "the template contains no workflow with a definition";
            found.error(code::NOT_A_DEFINITION, resources.place, message).hint =
                Some("a workflow is a resource of type `Microsoft.Logic/workflows`".to_owned());
            return None;
        }
        (None, [only]) => only,
        (None, several) => {
            let message = format!("the template contains {} workflows, and none was selected", several.len());
            let related = several
                .iter()
                .map(|candidate| (candidate.resource.place.start as usize, candidate.name.as_str()))
                .map(|(start, name)| (start..start + 1, format!("`{name}`")))
                .collect();
            let place = crate::text::Span32 { start: resources.place.start, end: resources.place.start + 1 };
            let diagnostic = found.error(code::SEVERAL_WORKFLOWS, place, message);
            diagnostic.related = related;
            diagnostic.hint = Some("select one by name, for example with --workflow NAME".to_owned());
            return None;
        }
        (Some(wanted), several) => {
            if let Some(candidate) = several.iter().find(|candidate| same_name(&candidate.name, wanted)) {
                candidate
            } else {
                let message = format!("unknown workflow `{wanted}` in the template");
                let hint = did_you_mean(wanted, names());
                found.error(code::NO_SUCH_WORKFLOW, resources.place, message).hint = hint;
                return None;
            }
        }
    };
    let template = &*candidate.template;
    template.set_copy_index(candidate.copy);
    let definition = resolve(&candidate.definition, template, found);
    found.want_object(&definition, "definition")?;
    let properties = candidate.resource.get("properties");
    let values = properties
        .and_then(|properties| properties.get("parameters"))
        .map(|values| resolve(values, template, found))
        .filter(|values| values.members().is_some());
    Some(Chosen {
        definition,
        kind: candidate
            .resource
            .get("kind")
            .filter(|kind| kind.text().and_then(WorkflowKind::parse).is_some()),
        name: Some(candidate.name.clone()),
        tags: candidate.resource.get("tags").map(|tags| resolve(tags, template, found)),
        values,
        references: properties.and_then(|properties| properties.get("connectionReferences")),
    })
}

/// Collects the workflows among `resources`, including nested resources and nested templates.
fn collect<'n>(
    resources: &'n Node,
    template: &Rc<arm::Template<'n>>,
    list: &mut Vec<Candidate<'n>>,
    depth: usize,
) {
    if depth > 10 {
        return;
    }
    let named = resources.members().unwrap_or_default().iter().map(|member| &member.value);
    for resource in resources.items().unwrap_or_default().iter().chain(named) {
        let properties = resource.get("properties");
        let written = properties.and_then(|properties| properties.get("definition"));
        if let Some(definition) = written.and_then(|written| workflow_in(written, template)) {
            let looks_right =
                ["actions", "triggers", "$schema"].iter().any(|part| definition.get(part).is_some());
            let kind = resource.get("type").and_then(Node::text).unwrap_or_default();
            if looks_right
                && (kind.to_ascii_lowercase().ends_with("workflows") || definition.get("actions").is_some())
            {
                for copy in copies(resource, template) {
                    template.set_copy_index(copy);
                    let written = resource.get("name").and_then(Node::text).unwrap_or("workflow");
                    let name = match template.evaluate(written) {
                        Some(Ok(value)) => value.text().into_owned(),
                        _ => written.to_owned(),
                    };
                    let (definition, template) = (definition.clone(), Rc::clone(template));
                    list.push(Candidate { resource, definition, name, template, copy });
                }
                template.set_copy_index(None);
            }
        }
        if let Some(inner) = resource.get("resources") {
            collect(inner, template, list, depth + 1);
        }
        let nested = properties.and_then(|properties| Some((properties, properties.get("template")?)));
        if let Some((deployment, root)) = nested
            && let Some(inner) = root.get("resources")
        {
            let template = Rc::new(arm::Template::nested(template, deployment, root));
            collect(inner, &template, list, depth + 1);
        }
    }
}

/// The definition of a resource, which may be a literal or a template expression.
fn workflow_in<'n>(written: &'n Node, template: &arm::Template<'n>) -> Option<Cow<'n, Node>> {
    let Some(text) = written.text() else {
        return written.members().map(|_| Cow::Borrowed(written));
    };
    if let Some(elsewhere) = template.mentioned(text) {
        return elsewhere.members().map(|_| Cow::Borrowed(elsewhere));
    }
    let value = template.evaluate(text)?.ok().filter(|value| value.as_object().is_some())?;
    Some(Cow::Owned(Node::computed(&value, written.place)))
}

/// The indices of a resource's `copy` loop; a single `None` without a loop.
fn copies(resource: &Node, template: &arm::Template<'_>) -> Vec<Option<i64>> {
    let Some(count) = resource.get("copy").and_then(|copy| copy.get("count")) else { return vec![None] };
    let written = count.text().and_then(|text| template.evaluate(text));
    let count = count.integer().or_else(|| written?.ok()?.as_i64());
    (0..count.unwrap_or(1).clamp(0, COPIES_MAX)).map(Some).collect()
}

/// Replaces template expressions by their values. One that cannot be evaluated remains as a string, with a warning.
fn resolve(node: &Node, template: &arm::Template<'_>, found: &mut Findings<'_>) -> Node {
    match &node.shape {
        Shape::String(text) => match template.evaluate(text) {
            None => node.clone(),
            Some(Ok(value)) => Node::computed(&value, node.place),
            Some(Err(reason)) => {
                let message = format!("unresolved template expression: {reason}");
                found.warning(code::ARM_UNRESOLVED, node.place, message);
                node.clone()
            }
        },
        Shape::Array(items) => Node {
            place: node.place,
            shape: Shape::Array(items.iter().map(|item| resolve(item, template, found)).collect()),
            computed: node.computed,
        },
        Shape::Object(members) => {
            let members = members.iter().map(|member| Member {
                name: std::sync::Arc::clone(&member.name),
                name_place: member.name_place,
                value: resolve(&member.value, template, found),
            });
            Node { place: node.place, shape: Shape::Object(members.collect()), computed: node.computed }
        }
        Shape::Null | Shape::Bool(_) | Shape::Number(_) => node.clone(),
    }
}
