//! The structure that an XSD schema declares, as far as flat files and typed JSON need it: elements in order, how often
//! they may occur, the types of their text, and the flat-file annotations.

use std::collections::HashMap;

use uppsala::{Document, NodeId, XS_NAMESPACE};

use crate::Error;

/// How deeply types may nest; deeper nesting counts as recursion.
const DEPTH_MAX: usize = 64;

/// The namespace of flat-file annotations.
const ANNOTATIONS: &str = "http://schemas.microsoft.com/BizTalk/2003";

/// The annotations of one element: the attributes of its `recordInfo` or `fieldInfo`.
pub(crate) type Notes = HashMap<String, String>;

/// The type of the text of an element or attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simple {
    Text,
    Integer,
    Number,
    Boolean,
}

/// An attribute that an element may have.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) simple: Simple,
    pub(crate) notes: Notes,
}

/// An element in its place in the parent.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) namespace: Option<String>,
    pub(crate) least: usize,
    /// `None` for unbounded.
    pub(crate) most: Option<usize>,
    pub(crate) content: Content,
    pub(crate) notes: Notes,
}

/// The content of an element.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Text alone.
    Simple(Simple),
    /// Elements and attributes. `text` is the type of text beside them, if the schema allows any.
    Record { attributes: Vec<Attribute>, children: Vec<Element>, text: Option<Simple> },
    /// The type contains itself; such content is read without a schema.
    Endless,
}

/// The elements that a schema allows as the root of a document.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) roots: Vec<Element>,
    /// The annotations of the schema itself.
    pub(crate) notes: Notes,
}

impl Shape {
    /// Parses the structure of a schema.
    pub(crate) fn read(schema: &str) -> Result<Shape, Error> {
        let wrong = |message: String| Error::new("InvalidXmlSchema", message);
        let document = uppsala::parse(schema.trim_start_matches('\u{feff}'));
        let document = document.map_err(|error| wrong(format!("The schema is not valid XML: {error}.")))?;
        let Some(root) = document.document_element() else {
            return Err(wrong("The schema is empty.".to_owned()));
        };
        if !document.element(root).is_some_and(|element| element.matches_name_ns(XS_NAMESPACE, "schema")) {
            return Err(wrong("The root element of the schema must be xs:schema.".to_owned()));
        }
        let attribute = |name| document.get_attribute(root, name).map(str::to_owned);
        let reader = Reader {
            qualified: attribute("elementFormDefault").as_deref() == Some("qualified"),
            target: attribute("targetNamespace"),
            document: &document,
            root,
        };
        let notes = reader.notes(root, "schemaInfo");
        let mut roots = Vec::new();
        for node in reader.children(root, &["element"]) {
            roots.push(reader.element(node, true, 0)?);
        }
        // The annotation names the root if the schema declares several elements.
        if let Some(name) = notes.get("root_reference") {
            roots.sort_by_key(|root| root.name != *name);
        }
        if roots.is_empty() {
            return Err(wrong("The schema declares no root element.".to_owned()));
        }
        Ok(Shape { roots, notes })
    }
}

struct Reader<'d> {
    document: &'d Document<'d>,
    root: NodeId,
    target: Option<String>,
    qualified: bool,
}

impl Reader<'_> {
    /// The child elements in the XSD namespace with one of these names, in order.
    fn children(&self, node: NodeId, names: &[&str]) -> Vec<NodeId> {
        let fits = |child: &NodeId| {
            self.document
                .element(*child)
                .is_some_and(|element| names.iter().any(|name| element.matches_name_ns(XS_NAMESPACE, name)))
        };
        self.document.children_iter(node).filter(fits).collect()
    }

    fn notes(&self, node: NodeId, name: &str) -> Notes {
        let mut notes = Notes::new();
        for annotation in self.children(node, &["annotation"]) {
            for info in self.children(annotation, &["appinfo"]) {
                for note in self.document.child_elements_by_name_ns(info, ANNOTATIONS, name) {
                    let Some(element) = self.document.element(note) else { continue };
                    let found = element.attributes.iter();
                    notes.extend(
                        found.map(|found| (found.name.local_name.to_string(), found.value.to_string())),
                    );
                }
            }
        }
        notes
    }

    /// A global declaration by its local name.
    fn global(&self, kinds: &[&str], name: &str) -> Option<NodeId> {
        let local = name.rsplit(':').next().unwrap_or(name);
        let all = self.children(self.root, kinds);
        all.into_iter().find(|node| self.document.get_attribute(*node, "name") == Some(local))
    }

    fn occurs(&self, node: NodeId) -> (usize, Option<usize>) {
        let number = |name| self.document.get_attribute(node, name);
        let least = number("minOccurs").and_then(|least| least.parse().ok()).unwrap_or(1);
        let most = match number("maxOccurs") {
            None => Some(1),
            Some("unbounded") => None,
            Some(most) => Some(most.parse().unwrap_or(1)),
        };
        (least, most)
    }

    fn element(&self, node: NodeId, global: bool, depth: usize) -> Result<Element, Error> {
        let (least, most) = self.occurs(node);
        if let Some(reference) = self.document.get_attribute(node, "ref") {
            let Some(declared) = self.global(&["element"], reference) else {
                let message =
                    format!("The schema refers to the element '{reference}', which it does not declare.");
                return Err(Error::new("InvalidXmlSchema", message));
            };
            return Ok(Element { least, most, ..self.element(declared, true, depth)? });
        }
        let form = self.document.get_attribute(node, "form");
        let qualified = global || form.map_or(self.qualified, |form| form == "qualified");
        let mut notes = self.notes(node, "recordInfo");
        notes.extend(self.notes(node, "fieldInfo"));
        Ok(Element {
            name: self.document.get_attribute(node, "name").unwrap_or_default().to_owned(),
            namespace: self.target.clone().filter(|_| qualified),
            least,
            most,
            content: self.content(node, depth + 1)?,
            notes,
        })
    }

    fn content(&self, node: NodeId, depth: usize) -> Result<Content, Error> {
        if depth > DEPTH_MAX {
            return Ok(Content::Endless);
        }
        let inline = self.children(node, &["complexType"]).into_iter().next();
        let named = self.document.get_attribute(node, "type");
        let complex = inline.or_else(|| named.and_then(|name| self.global(&["complexType"], name)));
        let Some(complex) = complex else {
            let inline = self.children(node, &["simpleType"]).into_iter().next();
            return Ok(Content::Simple(match (inline, named) {
                (Some(inline), _) => self.restricted(inline, depth),
                (None, Some(name)) => self.simple(name, depth),
                (None, None) => Simple::Text,
            }));
        };
        let mut record = (Vec::new(), Vec::new(), None);
        self.complex(complex, depth, &mut record)?;
        let (attributes, children, text) = record;
        Ok(Content::Record { attributes, children, text })
    }

    fn complex(
        &self,
        node: NodeId,
        depth: usize,
        into: &mut (Vec<Attribute>, Vec<Element>, Option<Simple>),
    ) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        for group in self.children(node, &["sequence", "choice", "all", "group"]) {
            self.particles(group, (1, Some(1)), depth, &mut into.1)?;
        }
        for extended in self.children(node, &["complexContent", "simpleContent"]) {
            for extension in self.children(extended, &["extension", "restriction"]) {
                if let Some(base) = self.document.get_attribute(extension, "base") {
                    match self.global(&["complexType"], base) {
                        Some(base) => self.complex(base, depth + 1, into)?,
                        None => into.2 = Some(self.simple(base, depth + 1)),
                    }
                }
                self.complex(extension, depth + 1, into)?;
            }
        }
        for attribute in self.children(node, &["attribute"]) {
            let reference = self.document.get_attribute(attribute, "ref");
            let declared = reference.and_then(|name| self.global(&["attribute"], name)).unwrap_or(attribute);
            let Some(name) = self.document.get_attribute(declared, "name") else { continue };
            let inline = self.children(declared, &["simpleType"]).into_iter().next();
            let simple = match (inline, self.document.get_attribute(declared, "type")) {
                (Some(inline), _) => self.restricted(inline, depth),
                (None, Some(name)) => self.simple(name, depth),
                (None, None) => Simple::Text,
            };
            let notes = self.notes(attribute, "fieldInfo");
            into.0.push(Attribute { name: name.to_owned(), simple, notes });
        }
        Ok(())
    }

    /// The elements of a group in order. The elements of a choice are all optional.
    fn particles(
        &self,
        group: NodeId,
        around: (usize, Option<usize>),
        depth: usize,
        into: &mut Vec<Element>,
    ) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Ok(());
        }
        let is = |name| {
            self.document.element(group).is_some_and(|found| found.matches_name_ns(XS_NAMESPACE, name))
        };
        let own = self.occurs(group);
        let many = |most: Option<usize>, outer: Option<usize>| Some(most?.max(outer?));
        let around = (around.0.min(own.0), many(own.1, around.1));
        let around = (if is("choice") { 0 } else { around.0 }, around.1);
        if is("group") {
            let Some(declared) =
                self.document.get_attribute(group, "ref").and_then(|name| self.global(&["group"], name))
            else {
                return Ok(());
            };
            for inner in self.children(declared, &["sequence", "choice", "all"]) {
                self.particles(inner, around, depth + 1, into)?;
            }
            return Ok(());
        }
        for child in self.children(group, &["element", "sequence", "choice", "all", "group"]) {
            let found = self.document.element(child);
            if found.is_some_and(|found| found.matches_name_ns(XS_NAMESPACE, "element")) {
                let element = self.element(child, false, depth)?;
                let (least, most) = (element.least.min(around.0), many(element.most, around.1));
                into.push(Element { least, most, ..element });
            } else {
                self.particles(child, around, depth + 1, into)?;
            }
        }
        Ok(())
    }

    fn restricted(&self, simple: NodeId, depth: usize) -> Simple {
        let base = self.children(simple, &["restriction"]).into_iter().next();
        let base = base.and_then(|base| self.document.get_attribute(base, "base"));
        base.map_or(Simple::Text, |base| self.simple(base, depth + 1))
    }

    /// The base type of a named simple type.
    fn simple(&self, name: &str, depth: usize) -> Simple {
        if depth > DEPTH_MAX {
            return Simple::Text;
        }
        if let Some(declared) = self.global(&["simpleType"], name) {
            return self.restricted(declared, depth + 1);
        }
        match name.rsplit(':').next().unwrap_or(name) {
            "boolean" => Simple::Boolean,
            "decimal" | "float" | "double" => Simple::Number,
            "integer" | "int" | "long" | "short" | "byte" | "nonNegativeInteger" | "positiveInteger"
            | "nonPositiveInteger" | "negativeInteger" | "unsignedLong" | "unsignedInt" | "unsignedShort"
            | "unsignedByte" => Simple::Integer,
            _ => Simple::Text,
        }
    }
}
