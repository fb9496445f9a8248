//! Compiles a stylesheet into templates and instructions, with every expression parsed.

use std::collections::{BTreeMap, BTreeSet};

use loom_expression::xpath::{Expression, Node, parse_document};

use super::invalid;
use crate::Error;

pub(super) const XSL: &str = "http://www.w3.org/1999/XSL/Transform";

/// How deeply includes and imports may nest.
const INCLUDES_MAX: usize = 32;

type Compiled<T> = Result<T, Error>;

/// The name of a result node: its prefix and local name as written, and its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) qualified: String,
    pub(super) namespace: Option<String>,
}

/// A part of an attribute value template: text, or an expression in braces.
#[derive(Debug)]
pub(super) enum Part {
    Text(String),
    Value(Expression),
}

pub(super) type Avt = Vec<Part>;
pub(super) type Body = Vec<Instruction>;

#[derive(Debug)]
pub(super) struct Sort {
    pub(super) select: Expression,
    pub(super) number: Avt,
    pub(super) descending: Avt,
    pub(super) upper_first: bool,
}

/// A variable, parameter or argument.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) select: Option<Expression>,
    pub(super) body: Body,
    pub(super) is_parameter: bool,
}

/// The prefixes in scope at an element whose name is computed.
pub(super) type Prefixes = BTreeMap<String, String>;

#[derive(Debug)]
pub(super) enum Instruction {
    Text {
        text: String,
        raw: bool,
    },
    Literal {
        name: Name,
        namespaces: Vec<(String, String)>,
        attributes: Vec<(Name, Avt)>,
        sets: Vec<String>,
        body: Body,
    },
    ApplyTemplates {
        select: Option<Expression>,
        mode: Option<String>,
        sorts: Vec<Sort>,
        with: Vec<Binding>,
    },
    ApplyImports,
    CallTemplate {
        name: String,
        with: Vec<Binding>,
    },
    ForEach {
        select: Expression,
        sorts: Vec<Sort>,
        body: Body,
    },
    If {
        test: Expression,
        body: Body,
    },
    Choose {
        branches: Vec<(Option<Expression>, Body)>,
    },
    ValueOf {
        select: Expression,
        raw: bool,
    },
    CopyOf {
        select: Expression,
    },
    Copy {
        sets: Vec<String>,
        body: Body,
    },
    Element {
        name: Avt,
        namespace: Option<Avt>,
        prefixes: Prefixes,
        sets: Vec<String>,
        body: Body,
    },
    Attribute {
        name: Avt,
        namespace: Option<Avt>,
        prefixes: Prefixes,
        body: Body,
    },
    Comment {
        body: Body,
    },
    Pi {
        name: Avt,
        body: Body,
    },
    Number {
        value: Option<Expression>,
        count: Option<Vec<Expression>>,
        format: Avt,
    },
    Variable(Binding),
    Message {
        terminate: bool,
        body: Body,
    },
}

#[derive(Debug)]
pub(super) struct Template {
    pub(super) name: Option<String>,
    /// The alternatives of the `match` attribute with their priorities.
    pub(super) patterns: Vec<(Expression, f64)>,
    pub(super) mode: Option<String>,
    /// The import precedence: higher for a later import, highest for the importing stylesheet.
    pub(super) precedence: usize,
    pub(super) parameters: Vec<Binding>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) patterns: Vec<Expression>,
    pub(super) select: Expression,
}

#[derive(Debug, Default)]
pub(super) struct OutputOptions {
    pub(super) method: Option<String>,
    pub(super) omit_declaration: bool,
    pub(super) encoding: Option<String>,
    pub(super) standalone: Option<bool>,
    pub(super) indent: bool,
    pub(super) doctype: Option<(Option<String>, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Stylesheet {
    pub(super) templates: Vec<Template>,
    pub(super) globals: Vec<Binding>,
    pub(super) keys: Vec<Key>,
    pub(super) output: OutputOptions,
    pub(super) attribute_sets: BTreeMap<String, Vec<(Vec<String>, Body)>>,
    /// The names of elements whose white space is stripped (`*` for all), and of those excepted.
    pub(super) strip: BTreeSet<String>,
    pub(super) preserve: BTreeSet<String>,
    precedence: usize,
}

impl Stylesheet {
    pub(super) fn compile(text: &str, load: &dyn Fn(&str) -> Option<String>) -> Compiled<Stylesheet> {
        let mut sheet = Stylesheet::default();
        sheet.add(text, load, 0)?;
        Ok(sheet)
    }

    fn add(&mut self, text: &str, load: &dyn Fn(&str) -> Option<String>, depth: usize) -> Compiled<()> {
        if depth > INCLUDES_MAX {
            return Err(invalid(format!("includes and imports nest deeper than {INCLUDES_MAX} levels")));
        }
        let text = text.trim_start_matches('\u{feff}');
        let document = parse_document(text).map_err(invalid)?;
        let root = document.root_element();
        let is_sheet = root.tag_name().namespace() == Some(XSL);
        if is_sheet && !matches!(root.tag_name().name(), "stylesheet" | "transform") {
            return Err(invalid(format!("expected xsl:stylesheet, found xsl:{}", root.tag_name().name())));
        }
        if !is_sheet {
            if root.attribute((XSL, "version")).is_none() {
                return Err(invalid(
                    "the root element must be xsl:stylesheet or have the attribute xsl:version",
                ));
            }
            let reader = Reader { excluded: BTreeSet::new() };
            let body = vec![reader.literal(root)?];
            let root_pattern = Expression::parse_pattern("/", &|_| None).map_err(invalid)?;
            self.templates.push(Template {
                name: None,
                patterns: root_pattern.into_iter().map(|pattern| (pattern, 0.5)).collect(),
                mode: None,
                precedence: self.precedence,
                parameters: Vec::new(),
                body,
            });
            return Ok(());
        }
        let tops: Vec<Node<'_, '_>> = root.children().filter(Node::is_element).collect();
        for import in tops.iter().filter(|top| is(top, "import")) {
            self.load(*import, load, depth)?;
            self.precedence += 1;
        }
        let reader = Reader { excluded: excluded(root) };
        for top in tops {
            if top.tag_name().namespace() != Some(XSL) {
                if top.tag_name().namespace() == Some("urn:schemas-microsoft-com:xslt") {
                    return Err(invalid("scripts (msxsl:script) are not supported"));
                }
                continue;
            }
            match top.tag_name().name() {
                "import" => {}
                "include" => self.load(top, load, depth)?,
                "template" => self.template(&reader, top)?,
                "variable" | "param" => {
                    let binding = reader.binding(top)?;
                    // A variable with higher import precedence replaces an imported one.
                    self.globals.retain(|known| known.name != binding.name);
                    self.globals.push(binding);
                }
                "key" => {
                    let key = Key {
                        name: required(top, "name")?.to_owned(),
                        patterns: pattern(top, required(top, "match")?)?,
                        select: expression(top, required(top, "use")?)?,
                    };
                    self.keys.push(key);
                }
                "output" => self.output(top),
                "strip-space" => self.strip.extend(words(required(top, "elements")?)),
                "preserve-space" => self.preserve.extend(words(required(top, "elements")?)),
                "attribute-set" => {
                    let name = required(top, "name")?.to_owned();
                    let set = (sets(top), reader.body(top)?);
                    self.attribute_sets.entry(name).or_default().push(set);
                }
                other => return Err(invalid(format!("xsl:{other} is not supported"))),
            }
        }
        Ok(())
    }

    fn load(
        &mut self,
        node: Node<'_, '_>,
        load: &dyn Fn(&str) -> Option<String>,
        depth: usize,
    ) -> Compiled<()> {
        let href = required(node, "href")?;
        let text = load(href).ok_or_else(|| {
            invalid(format!("the stylesheet '{href}' was not found among the maps of the project"))
        })?;
        self.add(&text, load, depth + 1)
    }

    fn template(&mut self, reader: &Reader, node: Node<'_, '_>) -> Compiled<()> {
        let named = node.attribute("name").map(str::to_owned);
        let patterns = match node.attribute("match") {
            Some(text) => {
                let priority = node.attribute("priority").map(str::parse::<f64>).transpose();
                let priority =
                    priority.map_err(|_| invalid("the priority of a template must be a number"))?;
                let patterns = pattern(node, text)?.into_iter();
                patterns
                    .map(|pattern| {
                        let priority = priority.unwrap_or_else(|| pattern.default_priority());
                        (pattern, priority)
                    })
                    .collect()
            }
            None if named.is_some() => Vec::new(),
            None => return Err(invalid("xsl:template must have the attribute 'match' or 'name'")),
        };
        let (parameters, body) = reader.template_body(node)?;
        self.templates.push(Template {
            name: named,
            patterns,
            mode: node.attribute("mode").map(str::to_owned),
            precedence: self.precedence,
            parameters,
            body,
        });
        Ok(())
    }

    fn output(&mut self, node: Node<'_, '_>) {
        let yes = |name| node.attribute(name).map(|value| value == "yes");
        let options = &mut self.output;
        if let Some(method) = node.attribute("method") {
            options.method = Some(method.to_owned());
        }
        options.omit_declaration = yes("omit-xml-declaration").unwrap_or(options.omit_declaration);
        options.indent = yes("indent").unwrap_or(options.indent);
        options.standalone = yes("standalone").or(options.standalone);
        if let Some(encoding) = node.attribute("encoding") {
            options.encoding = Some(encoding.to_owned());
        }
        if let Some(system) = node.attribute("doctype-system") {
            let public = node.attribute("doctype-public").map(str::to_owned);
            options.doctype = Some((public, system.to_owned()));
        }
    }
}

fn is(node: &Node<'_, '_>, name: &str) -> bool {
    node.tag_name().namespace() == Some(XSL) && node.tag_name().name() == name
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split_ascii_whitespace().map(str::to_owned)
}

fn sets(node: Node<'_, '_>) -> Vec<String> {
    let own = node.attribute("use-attribute-sets").or_else(|| node.attribute((XSL, "use-attribute-sets")));
    own.map(words).into_iter().flatten().collect()
}

fn required<'n>(node: Node<'n, '_>, name: &str) -> Compiled<&'n str> {
    node.attribute(name)
        .ok_or_else(|| invalid(format!("xsl:{} must have the attribute '{name}'", node.tag_name().name())))
}

/// The namespaces that literal result elements do not copy to the result.
fn excluded(root: Node<'_, '_>) -> BTreeSet<String> {
    let mut excluded = BTreeSet::from([XSL.to_owned()]);
    for list in ["exclude-result-prefixes", "extension-element-prefixes"] {
        for prefix in root.attribute(list).into_iter().flat_map(words) {
            let prefix = if prefix == "#default" { None } else { Some(prefix.as_str()) };
            excluded.extend(root.lookup_namespace_uri(prefix).map(str::to_owned));
        }
    }
    excluded
}

fn in_scope(node: Node<'_, '_>, prefix: &str) -> Option<String> {
    if prefix == "xml" {
        return Some("http://www.w3.org/XML/1998/namespace".to_owned());
    }
    node.lookup_namespace_uri(Some(prefix)).map(str::to_owned)
}

fn expression(node: Node<'_, '_>, text: &str) -> Compiled<Expression> {
    Expression::parse(text, &|prefix| in_scope(node, prefix))
        .map_err(|error| invalid(format!("'{text}' of xsl:{}: {error}", node.tag_name().name())))
}

fn pattern(node: Node<'_, '_>, text: &str) -> Compiled<Vec<Expression>> {
    Expression::parse_pattern(text, &|prefix| in_scope(node, prefix))
        .map_err(|error| invalid(format!("'{text}' of xsl:{}: {error}", node.tag_name().name())))
}

/// Parses an attribute value template.
fn avt(node: Node<'_, '_>, text: &str) -> Compiled<Avt> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        plain.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            plain.push_str(brace);
            rest = behind;
            continue;
        }
        if brace == "}" {
            return Err(invalid(format!("'{text}' has an unmatched '}}'; write a literal brace twice")));
        }
        let mut quote = None;
        let end = rest.find(|c| {
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '"' || c == '\'' => quote = Some(c),
                None => return c == '}',
                Some(_) => {}
            }
            false
        });
        let end = end
            .ok_or_else(|| invalid(format!("'{text}' has an unmatched '{{'; write a literal brace twice")))?;
        if !plain.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut plain)));
        }
        parts.push(Part::Value(expression(node, &rest[..end])?));
        rest = &rest[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    Ok(parts)
}

struct Reader {
    excluded: BTreeSet<String>,
}

impl Reader {
    fn template_body(&self, node: Node<'_, '_>) -> Compiled<(Vec<Binding>, Body)> {
        let parameters = node.children().filter(|child| is(child, "param"));
        let parameters = parameters.map(|parameter| self.binding(parameter)).collect::<Compiled<_>>()?;
        Ok((parameters, self.body(node)?))
    }

    fn body(&self, node: Node<'_, '_>) -> Compiled<Body> {
        let mut body = Vec::new();
        for child in node.children() {
            if child.is_text() {
                let text = child.text().unwrap_or_default();
                if !text.trim_matches([' ', '\t', '\r', '\n']).is_empty() {
                    body.push(Instruction::Text { text: text.to_owned(), raw: false });
                }
            } else if child.is_element() {
                if child.tag_name().namespace() == Some(XSL) {
                    body.extend(self.instruction(child)?);
                } else {
                    body.push(self.literal(child)?);
                }
            }
        }
        Ok(body)
    }

    fn instruction(&self, node: Node<'_, '_>) -> Compiled<Option<Instruction>> {
        let select = || node.attribute("select").map(|text| expression(node, text)).transpose();
        let needed = |name| -> Compiled<Expression> {
            let text = node.attribute(name);
            expression(
                node,
                text.ok_or_else(|| {
                    invalid(format!("xsl:{} must have the attribute '{name}'", node.tag_name().name()))
                })?,
            )
        };
        let template = |name: &str| -> Compiled<Avt> {
            let text = node.attribute(name);
            avt(
                node,
                text.ok_or_else(|| {
                    invalid(format!("xsl:{} must have the attribute '{name}'", node.tag_name().name()))
                })?,
            )
        };
        let optional = |name: &str| node.attribute(name).map(|text| avt(node, text)).transpose();
        let raw = node.attribute("disable-output-escaping") == Some("yes");
        let name = || {
            node.attribute("name")
                .map(str::to_owned)
                .ok_or_else(|| invalid("xsl:call-template must have the attribute 'name'"))
        };
        Ok(Some(match node.tag_name().name() {
            // The parent reads these from its leading children.
            "param" | "sort" | "with-param" | "fallback" => return Ok(None),
            "text" => {
                let text = node.text().unwrap_or_default().to_owned();
                Instruction::Text { text, raw }
            }
            "apply-templates" => Instruction::ApplyTemplates {
                select: select()?,
                mode: node.attribute("mode").map(str::to_owned),
                sorts: Self::sorts(node)?,
                with: self.arguments(node)?,
            },
            "apply-imports" => Instruction::ApplyImports,
            "call-template" => Instruction::CallTemplate { name: name()?, with: self.arguments(node)? },
            "for-each" => Instruction::ForEach {
                select: needed("select")?,
                sorts: Self::sorts(node)?,
                body: self.body(node)?,
            },
            "if" => Instruction::If { test: needed("test")?, body: self.body(node)? },
            "choose" => {
                let mut branches = Vec::new();
                for branch in node.children().filter(Node::is_element) {
                    let test = match branch.tag_name().name() {
                        "when" => {
                            let test = branch
                                .attribute("test")
                                .ok_or_else(|| invalid("xsl:when must have the attribute 'test'"))?;
                            Some(expression(branch, test)?)
                        }
                        "otherwise" => None,
                        other => return Err(invalid(format!("xsl:choose cannot contain '{other}'"))),
                    };
                    branches.push((test, self.body(branch)?));
                }
                Instruction::Choose { branches }
            }
            "value-of" => Instruction::ValueOf { select: needed("select")?, raw },
            "copy-of" => Instruction::CopyOf { select: needed("select")? },
            "copy" => Instruction::Copy { sets: sets(node), body: self.body(node)? },
            "element" => Instruction::Element {
                name: template("name")?,
                namespace: optional("namespace")?,
                prefixes: prefixes(node),
                sets: sets(node),
                body: self.body(node)?,
            },
            "attribute" => Instruction::Attribute {
                name: template("name")?,
                namespace: optional("namespace")?,
                prefixes: prefixes(node),
                body: self.body(node)?,
            },
            "comment" => Instruction::Comment { body: self.body(node)? },
            "processing-instruction" => Instruction::Pi { name: template("name")?, body: self.body(node)? },
            "number" => {
                if node.attribute("level").is_some_and(|level| level != "single") {
                    return Err(invalid("xsl:number is supported only with level=\"single\""));
                }
                Instruction::Number {
                    value: node.attribute("value").map(|text| expression(node, text)).transpose()?,
                    count: node.attribute("count").map(|text| pattern(node, text)).transpose()?,
                    format: optional("format")?.unwrap_or_else(|| vec![Part::Text("1".to_owned())]),
                }
            }
            "variable" => Instruction::Variable(self.binding(node)?),
            "message" => Instruction::Message {
                terminate: node.attribute("terminate") == Some("yes"),
                body: self.body(node)?,
            },
            other => return Err(invalid(format!("xsl:{other} is not supported"))),
        }))
    }

    fn sorts(node: Node<'_, '_>) -> Compiled<Vec<Sort>> {
        let sorts = node.children().filter(|child| is(child, "sort")).map(|sort| {
            Ok(Sort {
                select: expression(sort, sort.attribute("select").unwrap_or("."))?,
                number: avt(sort, sort.attribute("data-type").unwrap_or("text"))?,
                descending: avt(sort, sort.attribute("order").unwrap_or("ascending"))?,
                upper_first: sort.attribute("case-order") == Some("upper-first"),
            })
        });
        sorts.collect()
    }

    fn arguments(&self, node: Node<'_, '_>) -> Compiled<Vec<Binding>> {
        node.children().filter(|child| is(child, "with-param")).map(|child| self.binding(child)).collect()
    }

    fn binding(&self, node: Node<'_, '_>) -> Compiled<Binding> {
        let name = node.attribute("name");
        Ok(Binding {
            name: name
                .ok_or_else(|| {
                    invalid(format!("xsl:{} must have the attribute 'name'", node.tag_name().name()))
                })?
                .trim()
                .to_owned(),
            select: node.attribute("select").map(|text| expression(node, text)).transpose()?,
            body: self.body(node)?,
            is_parameter: node.tag_name().name() == "param",
        })
    }

    fn literal(&self, node: Node<'_, '_>) -> Compiled<Instruction> {
        let namespaces = node.namespaces().filter_map(|namespace| {
            let prefix = namespace.name().unwrap_or_default();
            let hidden = prefix == "xml" || self.excluded.contains(namespace.uri());
            (!hidden).then(|| (prefix.to_owned(), namespace.uri().to_owned()))
        });
        let namespaces = namespaces.collect();
        let mut attributes = Vec::new();
        for attribute in node.attributes().filter(|attribute| attribute.namespace() != Some(XSL)) {
            let prefix = attribute.namespace().and_then(|uri| {
                node.namespaces().find(|known| known.uri() == uri && known.name().is_some())?.name()
            });
            let prefix = if attribute.namespace() == Some("http://www.w3.org/XML/1998/namespace") {
                Some("xml")
            } else {
                prefix
            };
            let name = Name {
                qualified: qualified(prefix, attribute.name()),
                namespace: attribute.namespace().map(str::to_owned),
            };
            attributes.push((name, avt(node, attribute.value())?));
        }
        let uri = node.tag_name().namespace();
        let prefix = uri.and_then(|uri| {
            let default = node.lookup_namespace_uri(None) == Some(uri);
            if default && !written_with_prefix(node) { None } else { node.lookup_prefix(uri) }
        });
        let name = Name {
            qualified: qualified(prefix.filter(|prefix| !prefix.is_empty()), node.tag_name().name()),
            namespace: uri.map(str::to_owned),
        };
        Ok(Instruction::Literal { name, namespaces, attributes, sets: sets(node), body: self.body(node)? })
    }
}

/// Whether the element's name is written with a prefix.
fn written_with_prefix(node: Node<'_, '_>) -> bool {
    let source = node.document().input_text();
    let tag = source.get(node.range().start + 1..).unwrap_or_default();
    let end = tag.find(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).unwrap_or(tag.len());
    tag[..end].contains(':')
}

pub(super) fn qualified(prefix: Option<&str>, local: &str) -> String {
    prefix.map_or_else(|| local.to_owned(), |prefix| format!("{prefix}:{local}"))
}

fn prefixes(node: Node<'_, '_>) -> Prefixes {
    let known = node
        .namespaces()
        .map(|namespace| (namespace.name().unwrap_or_default().to_owned(), namespace.uri().to_owned()));
    known.collect()
}
